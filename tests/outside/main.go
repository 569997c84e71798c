// Command outbox-judge says whether what clients of a campaign asked and were told can be, if the outbox keeps what it
// promises. It shares no code with the outbox; docs/histories.md says what it goes by.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	if len(os.Args) == 1 {
		fmt.Fprintln(os.Stderr, "usage: outbox-judge HISTORY.jsonl[.gz] ...")
		os.Exit(2)
	}
	exit := 0
	for _, path := range os.Args[1:] {
		h, err := readFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		found := judge(h)
		fmt.Printf("%s: seed %d, %s wire: %d schedules, %d intents, %d reads, %d answers: %s\n",
			path, h.header.Seed, h.header.Wire, found.lanes, found.intents, found.reads, found.answers, said(found))
		for _, one := range found.refusals {
			fmt.Println(one)
		}
		if len(found.refusals) > 0 {
			exit = 1
		}
	}
	os.Exit(exit)
}

func said(of verdict) string {
	switch {
	case len(of.refusals) > 0:
		return "REFUSED"
	case len(of.late) > 0:
		return "explained; " + strings.Join(of.late, ", ") + " by a call that took effect after its bound"
	default:
		return "explained"
	}
}
