"""A console that tells when nobody reads; rich's own ends the process as if something were wrong."""

from rich.console import Console


class PipedConsole(Console):
    """Writes lines as they are: what is shown is to be read, copied and piped. Numbers have no colour."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, highlight=False)

    def on_broken_pipe(self) -> None:
        """Let whoever runs the command hear of it; of what is said on the side, nobody needs to."""
        if not self.stderr:
            raise BrokenPipeError
