package main

import (
	"encoding/json"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// intent is a request that was committed, or may have been.
type intent struct {
	id      string
	number  int // in its lane
	kind    string
	owner   string // "user:alice"; empty: it is nobody's
	refused bool   // Temporal takes no such cron expression
	changes changes
	begin   int64
	end     int64
	maybe   bool // nobody knows whether it was committed
	heard   bool // of its terminal event
	turn    int  // the place of its first event among those of the lane; 0: none was heard
	request *request
}

// changes are the fields that a create or an update names; nil: it doesn't.
type changes struct {
	hours  *string
	paused *bool
	note   *string
}

// registration is what the intent's create writes into SpiceDB.
func (i *intent) registration() relations {
	if i.owner == "" {
		return ""
	}
	agent, _, _ := strings.Cut(i.request.schedule, "--")
	return relationsOf("owner@"+i.owner, "parent_agent@agent:"+agent, stampOf(i.id))
}

func stampOf(id string) string { return "registered_by@outbox_intent:" + id }

// observation is a request that the model has to explain, in the lane of its schedule.
type observation struct {
	request  *request
	intent   *intent   // of enqueue, wait and hear
	seen     relations // of a read of SpiceDB, and the one relation of a grant
	schedule schedule  // of a read of Temporal
	what     string    // as the request's; a read is of its store
	begin    int64
	end      int64
	maybe    bool
}

func (o *observation) String() string {
	if o.what == "rest" {
		return "nothing is under way any more"
	}
	return o.request.String()
}

// lane is all that a history tells of one schedule.
type lane struct {
	schedule     string
	intents      []*intent
	known        map[string]*intent
	relations    relations // what others had put there before
	temporal     schedule
	observations []*observation
	hears        bool
	turns        int // how many intents were heard of
}

// refusal says what a history tells that the guarantees rule out.
type refusal struct {
	schedule string
	reason   string
	requests []string
}

func (r refusal) String() string {
	told := append([]string{r.schedule + ": " + r.reason}, r.requests...)
	return strings.Join(told, "\n    ")
}

// lanesOf divides a history by schedule, and lists what is wrong without any model.
func lanesOf(h *history) ([]*lane, []refusal) {
	found := map[string]*gathered{}
	var refusals []refusal
	rest, lossy := int64(never), false
	for _, one := range h.requests {
		switch {
		case one.what == "rest":
			rest = one.begin
		case one.what == "trouble" && one.asked.Name == "Kafka loses all its data":
			lossy = true
		case one.schedule != "":
			of := found[one.schedule]
			if of == nil {
				of = &gathered{lane: &lane{schedule: one.schedule, known: map[string]*intent{}}}
				found[one.schedule] = of
			}
			of.requests = append(of.requests, one)
		}
	}
	var lanes []*lane
	everyone := map[string]string{}
	for _, name := range sortedKeys(found) {
		of := found[name]
		of.commits()
		of.observe()
		for _, one := range of.lane.intents {
			if other, taken := everyone[one.id]; taken {
				of.refuse("one id for two intents, "+one.id+"; the other is of "+other, one.request)
			}
			everyone[one.id] = name
		}
		if rest != never {
			of.rests(rest, h.header.Wire == "kafka" && !lossy)
		}
		lanes = append(lanes, of.lane)
		refusals = append(refusals, of.refusals...)
	}
	return lanes, refusals
}

// gathered is what a lane is made of.
type gathered struct {
	lane     *lane
	requests []*request
	undone   map[string]*request // intents that were rolled back, or lost their place to another of the same key
	refusals []refusal
}

func (g *gathered) refuse(reason string, requests ...*request) {
	told := make([]string, len(requests))
	for at, one := range requests {
		told[at] = one.String()
	}
	g.refusals = append(g.refusals, refusal{g.lane.schedule, reason, told})
}

// commits finds which intents there are: attempts under one key are one intent.
func (g *gathered) commits() {
	g.undone = map[string]*request{}
	byKey := map[string][]*request{}
	for _, one := range g.requests {
		if one.what == "enqueue" {
			byKey[one.asked.Key] = append(byKey[one.asked.Key], one)
		}
	}
	for _, key := range sortedKeys(byKey) {
		attempts := byKey[key]
		var committed *request
		for _, one := range attempts {
			if one.outcome != told {
				continue
			}
			if committed != nil && committed.answer.Intent != one.answer.Intent {
				g.refuse("one key, and two intents", committed, one)
			}
			if committed == nil {
				committed = one
			}
		}
		for _, one := range attempts {
			id := one.answer.Intent
			switch {
			case id == "" || (committed != nil && id == committed.answer.Intent):
			case one.outcome == failed || committed != nil:
				g.undone[id] = one
			default:
				g.add(one, one, never, true)
			}
		}
		if committed != nil {
			first := slices.IndexFunc(attempts, func(one *request) bool {
				return one.outcome != failed && (one.answer.Intent == "" || one.answer.Intent == committed.answer.Intent)
			})
			g.add(committed, attempts[first], committed.end, false)
		}
	}
}

func (g *gathered) add(one, first *request, end int64, maybe bool) {
	if _, there := g.lane.known[one.answer.Intent]; there {
		return
	}
	hours, refused := hoursOf(one.asked.CronExpression)
	owner := ""
	if one.asked.Owner != nil {
		owner = *one.asked.Owner
	}
	found := &intent{
		id: one.answer.Intent, number: len(g.lane.intents), kind: one.asked.Kind, owner: owner, refused: refused,
		changes: changes{hours, one.asked.Paused, one.asked.Note},
		begin:   first.begin, end: end, maybe: maybe, request: one,
	}
	g.lane.intents = append(g.lane.intents, found)
	g.lane.known[found.id] = found
	g.lane.observations = append(g.lane.observations, &observation{
		request: one, intent: found, what: "enqueue", begin: found.begin, end: found.end, maybe: maybe,
	})
}

// hoursOf reads an expression like "0 3 * * *"; Temporal refuses all others that a history has.
func hoursOf(cron *string) (*string, bool) {
	if cron == nil {
		return nil, false
	}
	fields := strings.Fields(*cron)
	if len(fields) != 5 {
		return nil, true
	}
	if _, err := strconv.Atoi(fields[1]); err != nil {
		return nil, true
	}
	return &fields[1], false
}

// observe makes of each answer what the model has to explain.
func (g *gathered) observe() {
	heard := map[string]value{}
	ended := map[string]*request{}
	last := ""
	for _, one := range g.requests {
		switch one.what {
		case "found":
			g.found(one)
		case "read":
			g.read(one)
		case "wait":
			g.wait(one)
		case "grant":
			if one.outcome != failed {
				g.lane.observations = append(g.lane.observations, &observation{
					request: one, seen: relationsOf(one.asked.Relation), what: "grant",
					begin: one.begin, end: one.end, maybe: one.outcome == unknown,
				})
			}
		case "hear":
			event := one.answer
			if before, again := heard[event.ID]; again {
				if before.Event != event.Event || before.Intent != event.Intent {
					g.refuse("one event is told in two ways", one)
				}
				continue
			}
			heard[event.ID] = event
			if event.Sequence <= last {
				g.refuse("an event that is new comes with a sequence that was passed", one)
			}
			last = event.Sequence
			if event.Terminal {
				if before := ended[event.Intent]; before != nil {
					g.refuse("one intent, and two terminal events", before, one)
				}
				ended[event.Intent] = one
			}
			g.hear(one)
		}
	}
	g.hasTold(ended)
}

func (g *gathered) hear(one *request) {
	g.lane.hears = true
	if one.answer.Kind == "repair" || one.answer.Event == "schedule.update.requested" {
		// Repairs are the outbox's own. Of updates that are applied as one, the request may be told at any time.
		return
	}
	g.say(one, one.answer.Intent)
	known := g.lane.known[one.answer.Intent]
	if known != nil && known.turn == 0 && !strings.HasSuffix(one.answer.Event, ".requested") {
		g.lane.turns++
		known.turn = g.lane.turns
	}
}

// say takes up what a client was told of an intent. It was so at the latest when the client knew.
func (g *gathered) say(one *request, id string) {
	if undone := g.undone[id]; undone != nil {
		g.refuse("what was rolled back is told of", undone, one)
	} else if known := g.lane.known[id]; known == nil {
		g.refuse("an intent is told of that nobody asked for: "+id, one)
	} else {
		g.lane.observations = append(g.lane.observations, &observation{
			request: one, intent: known, what: one.what, begin: one.end, end: one.end,
		})
	}
}

func (g *gathered) wait(one *request) {
	switch one.outcome {
	case told:
		g.say(one, one.asked.Intent)
	case failed:
		if known := g.lane.known[one.asked.Intent]; known != nil && !known.maybe && known.end < one.begin {
			g.refuse("what was committed is not known", known.request, one)
		}
	}
}

// found is what others had put there before anything was asked.
func (g *gathered) found(one *request) {
	if one.outcome != told {
		return
	}
	if one.asked.Store == "spicedb" {
		g.lane.relations = g.relations(one)
	} else {
		g.lane.temporal = g.schedule(one)
	}
}

func (g *gathered) read(one *request) {
	if one.outcome != told {
		return
	}
	seen := &observation{request: one, what: one.asked.Store, begin: one.begin, end: one.end}
	if one.asked.Store == "spicedb" {
		seen.seen = g.relations(one)
	} else {
		seen.schedule = g.schedule(one)
	}
	g.lane.observations = append(g.lane.observations, seen)
}

func (g *gathered) relations(one *request) relations {
	var words []string
	if err := json.Unmarshal(one.answer.Found, &words); err != nil {
		g.refuse("what SpiceDB has can't be read: "+err.Error(), one)
	}
	for _, word := range words {
		g.mustNotBeUndone(strings.TrimPrefix(word, stampOf("")), one)
	}
	return relationsOf(words...)
}

func (g *gathered) schedule(one *request) schedule {
	var found *struct {
		Stamp    *string `json:"stamp"`
		Revision *string `json:"revision"`
		Hours    []int   `json:"hours"`
		Paused   bool    `json:"paused"`
		Note     string  `json:"note"`
	}
	if err := json.Unmarshal(one.answer.Found, &found); err != nil {
		g.refuse("what Temporal has can't be read: "+err.Error(), one)
	}
	if found == nil {
		return schedule{}
	}
	hours := make([]string, len(found.Hours))
	for at, hour := range found.Hours {
		hours[at] = strconv.Itoa(hour)
	}
	there := schedule{there: true, definition: definition{strings.Join(hours, ","), found.Paused, found.Note}}
	if found.Stamp != nil {
		there.stamp = *found.Stamp
		g.mustNotBeUndone(there.stamp, one)
	}
	if found.Revision != nil {
		there.revision = *found.Revision
		g.mustNotBeUndone(there.revision, one)
	}
	return there
}

func (g *gathered) mustNotBeUndone(id string, one *request) {
	if undone := g.undone[id]; undone != nil {
		g.refuse("what was rolled back has taken effect", undone, one)
	}
}

// hasTold keeps, for the end, of which intents a terminal event was heard.
func (g *gathered) hasTold(ended map[string]*request) {
	for _, one := range g.lane.intents {
		if ended[one.id] != nil {
			one.heard = true
		}
	}
}

// rests says that nothing is under way from a moment on: each intent has ended, and somebody was told how. Behind one
// that is parked they wait.
func (g *gathered) rests(at int64, all bool) {
	waited, parked := map[string]bool{}, false
	for _, one := range g.requests {
		if one.what == "wait" && one.outcome == told {
			waited[one.asked.Intent] = true
			parked = parked || one.answer.Status == "parked"
		}
	}
	for _, one := range g.lane.intents {
		switch {
		case one.maybe, parked:
		case !waited[one.id]:
			g.refuse("it was committed, and nobody was told how it ended: "+one.id, one.request)
		case all && !one.heard:
			g.refuse("it ended, and no terminal event was heard: "+one.id, one.request)
		}
	}
	g.lane.observations = append(g.lane.observations, &observation{what: "rest", begin: at, end: at})
}

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
