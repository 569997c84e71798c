package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// relations are what SpiceDB has of a schedule, sorted.
type relations string

func relationsOf(words ...string) relations {
	sorted := slices.Clone(words)
	slices.Sort(sorted)
	return relations(strings.Join(slices.Compact(sorted), " "))
}

func (r relations) has(word string) bool { return slices.Contains(strings.Fields(string(r)), word) }

func (r relations) isStamped() bool { return strings.Contains(string(r), stampOf("")) }

func (r relations) with(other relations) relations {
	return relationsOf(append(strings.Fields(string(r)), strings.Fields(string(other))...)...)
}

func (r relations) String() string {
	if r == "" {
		return "nothing"
	}
	return string(r)
}

// definition is what a schedule is to do, as far as histories tell.
type definition struct {
	hours  string
	paused bool
	note   string
}

func (d definition) changed(by changes) definition {
	if by.hours != nil {
		d.hours = *by.hours
	}
	if by.paused != nil {
		d.paused = *by.paused
	}
	if by.note != nil {
		d.note = *by.note
	}
	return d
}

// schedule is what Temporal has of a schedule: nothing, unless there is one.
type schedule struct {
	there           bool
	stamp, revision string
	definition
}

func (s schedule) String() string {
	if !s.there {
		return "nothing"
	}
	text := fmt.Sprintf("a schedule of %s at %s h", orNobody(s.stamp), s.hours)
	if s.paused {
		text += ", paused"
	}
	if s.revision != "" {
		text += ", as changed by " + s.revision
	}
	return text
}

func orNobody(stamp string) string {
	if stamp == "" {
		return "nobody"
	}
	return stamp
}

// lineup is intents by their numbers. Their order is left open until it shows: those that were committed side by side
// may go either way.
type lineup []*intent

func (l lineup) with(one *intent) lineup {
	longer := append(slices.Clone(l), one)
	slices.SortFunc(longer, func(a, b *intent) int { return a.number - b.number })
	return longer
}

func (l lineup) without(one *intent) lineup {
	return slices.DeleteFunc(slices.Clone(l), func(other *intent) bool { return other == one })
}

// first are those that no other must come before, as it was committed before they were asked for.
func (l lineup) first() []*intent {
	var found []*intent
	for _, one := range l {
		if !slices.ContainsFunc(l, func(other *intent) bool { return other.end < one.begin }) {
			found = append(found, one)
		}
	}
	return found
}

// phase is how far the intent at the head of a lane has come.
type phase string

const (
	requested    phase = "requested"
	registered   phase = "registered"
	skipped      phase = "skipped"
	compensating phase = "compensating"
	unscheduled  phase = "unscheduled"
)

// state is one thing that may be the case in a lane. States are values: no step changes one.
type state struct {
	// The lane.
	waiting  lineup // committed, and not begun
	head     *intent
	phase    phase
	cause    string // of what is compensated
	live     *intent
	wanted   definition // of what is live
	revision string     // the update that changed it last
	ends     []string   // how each intent ended, by its number
	log      []string   // events by number and type, each group behind a bar, from the last that was heard
	parked   bool
	rests    bool
	// The stores.
	relations relations
	temporal  schedule
	// What may still take effect, where the bound is broken.
	creates  []schedule
	updates  []schedule
	deletes  bool
	overlaid bool // by an update that took effect late

	told string // its text, once that was asked for
}

func (s *state) copy() *state {
	after := *s
	after.told = ""
	return &after
}

// text is the same for states that are the same.
func (s *state) text() string {
	if s.told != "" {
		return s.told
	}
	var text strings.Builder
	put := func(words ...string) {
		for _, word := range words {
			text.WriteString(word)
			text.WriteByte('|')
		}
	}
	for _, one := range s.waiting {
		put(strconv.Itoa(one.number))
	}
	put("head", number(s.head), string(s.phase), s.cause, "live", number(s.live), s.wanted.text(), s.revision)
	put(s.ends...)
	put("log")
	put(s.log...)
	put(strconv.FormatBool(s.parked), strconv.FormatBool(s.rests), string(s.relations), s.temporal.text())
	put(strconv.FormatBool(s.deletes), strconv.FormatBool(s.overlaid), "creates")
	for _, one := range s.creates {
		put(one.text())
	}
	put("updates")
	for _, one := range s.updates {
		put(one.text())
	}
	s.told = text.String()
	return s.told
}

func (d definition) text() string { return d.hours + "," + strconv.FormatBool(d.paused) + "," + d.note }

func (s schedule) text() string {
	return strconv.FormatBool(s.there) + "," + s.stamp + "," + s.revision + "," + s.definition.text()
}

func number(of *intent) string {
	if of == nil {
		return ""
	}
	return strconv.Itoa(of.number)
}

func (s *state) String() string {
	var under string
	switch {
	case s.head != nil:
		under = fmt.Sprintf("%s %s is %s", s.head.kind, s.head.id, s.phase)
	case len(s.waiting) > 0:
		under = fmt.Sprintf("%d wait", len(s.waiting))
	default:
		under = "nothing is under way"
	}
	return fmt.Sprintf("%s; SpiceDB has %s; Temporal has %s", under, s.relations, s.temporal)
}

// states is what may be the case: the states that explain all up to now. A model has one of each set.
type states struct {
	all    []*state
	number uint64
}
