"""The console's reads, previews and actions as tools for assistants (Model Context Protocol)."""
