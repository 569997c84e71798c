package main

import (
	"fmt"
	"slices"
	"sort"

	"github.com/anishathalye/porcupine"
)

// verdict is what came of judging a history.
type verdict struct {
	lanes    int
	intents  int
	reads    int
	answers  int
	late     []string // the lanes that only a call after the bound explains
	refusals []refusal
}

func judge(h *history) verdict {
	lanes, refusals := lanesOf(h)
	found := verdict{lanes: len(lanes), refusals: refusals}
	for _, one := range lanes {
		found.intents += len(one.intents)
		for _, seen := range one.observations {
			switch seen.what {
			case "spicedb", "temporal":
				found.reads++
			case "wait", "hear":
				found.answers++
			}
		}
		if explain(one, false) == nil {
			continue
		}
		if refused := explain(one, true); refused != nil {
			found.refusals = append(found.refusals, *refused)
		} else {
			found.late = append(found.late, one.schedule)
		}
	}
	return found
}

// explain looks for an order in which all that was observed of a lane can be; nil: there is one.
func explain(of *lane, late bool) *refusal {
	operations := make([]porcupine.Operation, len(of.observations))
	for at, seen := range of.observations {
		operations[at] = porcupine.Operation{ClientId: at, Input: seen, Call: seen.begin, Return: seen.end}
	}
	rules := newModel(of, late)
	result, info := porcupine.CheckOperationsVerbose(rules.porcupine(), operations, 0)
	switch {
	case result == porcupine.Ok:
		return nil
	case rules.steps >= mostSteps:
		return &refusal{of.schedule, fmt.Sprintf("it is too hard to judge: %d steps", mostSteps), nil}
	}
	return why(rules, info)
}

// why tells how far an explanation comes, and what is next and does not fit.
func why(rules *model, info porcupine.LinearizationInfo) *refusal {
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	explained := map[*observation]bool{}
	now := rules.begin()
	var intents []string
	for _, one := range longest {
		seen := one.Input.(*observation)
		explained[seen] = true
		now = rules.explain(now, seen)
		if seen.what == "enqueue" {
			intents = append(intents, seen.String())
		}
	}
	var open []*observation
	for _, one := range rules.lane.observations {
		if !explained[one] {
			open = append(open, one)
		}
	}
	sort.SliceStable(open, func(a, b int) bool { return open[a].end < open[b].end })
	told := append(intents, "it can be explained up to here, and then one of these:")
	for _, one := range now.all {
		if line := "    " + one.String(); !slices.Contains(told, line) {
			told = append(told, line)
		}
	}
	told = append(told, "but not: "+open[0].String())
	reason := fmt.Sprintf("no order explains it (%d of %d observations)", len(longest), len(rules.lane.observations))
	return &refusal{rules.lane.schedule, reason, told}
}
