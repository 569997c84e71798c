package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// What an intent ends with, and what it may fail for.
const (
	created      = "schedule.created"
	createFailed = "schedule.create_failed"
	updated      = "schedule.updated"
	updateFailed = "schedule.update_failed"
	deleted      = "schedule.deleted"
	deleteFailed = "schedule.delete_failed"

	conflictForeign = "conflict_foreign"
	conflictLive    = "conflict_live"
	notLive         = "not_live"
	refusedCode     = "refused"
)

// model says what a lane may do. What the outbox does between two observations is not observed: so a state stands for
// all those that it may become until the next one, and is taken no further than an observation asks for.
type model struct {
	lane  *lane
	late  bool // calls may take effect after the bound
	sets  map[string]*states
	after map[seenIn]*states
	steps int // taken in all
}

// seenIn is an observation in what may be the case.
type seenIn struct {
	now  *states
	seen *observation
}

func newModel(of *lane, late bool) *model {
	return &model{
		lane: of, late: late,
		sets: map[string]*states{}, after: map[seenIn]*states{},
	}
}

func (m *model) porcupine() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return m.begin() },
		Step: func(now, input, _ any) (bool, any) {
			after := m.explain(now.(*states), input.(*observation))
			return len(after.all) > 0, after
		},
		Hash: func(of any) uint64 { return of.(*states).number * prime },
	}
}

const (
	// prime spreads small numbers.
	prime = 0x9e3779b97f4a7c15
	// mostSteps is for a lane that is too hard to judge: those of campaigns take some thousand.
	mostSteps = 150_000
)

func (m *model) begin() *states {
	first := &state{
		ends: make([]string, len(m.lane.intents)), relations: m.lane.relations, temporal: m.lane.temporal,
	}
	return m.set(map[string]*state{first.text(): first})
}

func (m *model) set(of map[string]*state) *states {
	keys := sortedKeys(of)
	key := strings.Join(keys, "\n")
	if m.sets[key] == nil {
		found := &states{number: uint64(len(m.sets))}
		for _, one := range keys {
			found.all = append(found.all, of[one])
		}
		m.sets[key] = found
	}
	return m.sets[key]
}

// explain finds the states in which what was observed can be so, as they are after it: these states themselves, or the
// first that they may become. What they may become later, they may become after it.
func (m *model) explain(now *states, seen *observation) *states {
	if known := m.after[seenIn{now, seen}]; known != nil {
		return known
	}
	after, known := map[string]*state{}, map[string]bool{}
	open := slices.Clone(now.all)
	for at := 0; at < len(open); at++ {
		if m.steps >= mostSteps {
			return &states{}
		}
		found := m.observed(open[at], seen)
		for _, becomes := range found {
			after[becomes.text()] = becomes
		}
		// What is given may be taken away by what happens before, or be there after it.
		if (len(found) > 0 && seen.what != "grant") || hasEnded(open[at], seen) {
			continue
		}
		m.steps++
		for _, becomes := range m.stepsFrom(open[at]) {
			if text := becomes.text(); !known[text] {
				known[text] = true
				open = append(open, becomes)
			}
		}
	}
	m.after[seenIn{now, seen}] = m.set(after)
	return m.after[seenIn{now, seen}]
}

// hasEnded says that an intent has ended otherwise than it was told: that stays so.
func hasEnded(now *state, seen *observation) bool {
	return seen.what == "wait" && now.ends[seen.intent.number] != ""
}

func (m *model) observed(now *state, seen *observation) []*state {
	switch seen.what {
	case "enqueue":
		after := now.copy()
		after.waiting = now.waiting.with(seen.intent)
		if seen.maybe {
			return []*state{now, after}
		}
		return []*state{after}
	case "grant":
		after := now.copy()
		after.relations = now.relations.with(seen.seen)
		if seen.maybe {
			return []*state{now, after}
		}
		return []*state{after}
	case "spicedb":
		return only(now, now.relations == seen.seen)
	case "temporal":
		return only(now, now.temporal == seen.schedule)
	case "wait":
		return m.told(now, seen)
	case "hear":
		return heard(now, seen)
	case "rest":
		if !m.isAtRest(now) {
			return nil
		}
		after := now.copy()
		after.rests = true
		return []*state{after}
	}
	return nil
}

func only(now *state, isSo bool) []*state {
	if isSo {
		return []*state{now}
	}
	return nil
}

func (m *model) told(now *state, seen *observation) []*state {
	answer := seen.request.answer
	if answer.Status == "parked" {
		after := now.copy()
		after.parked = true
		if now.head != seen.intent {
			return nil
		}
		return []*state{after}
	}
	return only(now, now.ends[seen.intent.number] == answer.Event+" "+code(answer))
}

// heard moves on in the log to an event; what stands before it can't be heard any more for the first time.
func heard(now *state, seen *observation) []*state {
	answer := seen.request.answer
	event := logged(seen.intent, answer.Event)
	at := slices.Index(now.log, event)
	if at < 0 || (answer.Terminal && now.ends[seen.intent.number] != answer.Event+" "+code(answer)) {
		return nil
	}
	group := at
	for group > 0 && now.log[group-1] != bar {
		group--
	}
	after := now.copy()
	after.log = now.log[group:]
	return []*state{after}
}

const bar = "|"

func logged(of *intent, event string) string { return strconv.Itoa(of.number) + event }

// isAtRest says whether nothing has to be done any more, and both stores are as the lane has it.
func (m *model) isAtRest(now *state) bool {
	if now.parked {
		return true
	}
	if now.head != nil || len(now.waiting) > 0 {
		return false
	}
	if now.live == nil {
		return !now.temporal.there || !m.isOurs(now.temporal.stamp)
	}
	found, wanted := now.temporal, now.scheduled()
	if now.overlaid {
		// An update takes over what it finds of what people change by hand.
		found.paused, found.note = wanted.paused, wanted.note
	}
	return found == wanted
}

func (m *model) isOurs(stamp string) bool { return m.lane.known[stamp] != nil }

// stepsFrom are what may happen next.
func (m *model) stepsFrom(now *state) []*state {
	if now.rests {
		return nil
	}
	var next []*state
	if m.late {
		next = append(next, m.lateCalls(now)...)
	}
	if now.head == nil {
		if m.late {
			next = append(next, m.repair(now)...)
		}
		for _, first := range now.waiting.first() {
			if !m.isInTurn(now, nil, first) {
				continue
			}
			after := now.copy()
			after.head, after.waiting, after.phase = first, now.waiting.without(first), requested
			if first.kind != "update" {
				m.log(after, logged(after.head, "schedule."+after.head.kind+".requested"))
			}
			next = append(next, after)
		}
		return next
	}
	switch now.head.kind {
	case "create":
		return append(next, m.create(now)...)
	case "update":
		return append(next, m.update(now)...)
	default:
		return append(next, m.delete(now)...)
	}
}

// isInTurn says whether an intent may follow those of a run: events were heard of no other earlier that has not ended.
// That events are heard in the order in which they happen is judged, too: so nothing is lost by going by it, and few
// orders are left to try.
func (m *model) isInTurn(now *state, run []*intent, one *intent) bool {
	return one.turn == 0 || !slices.ContainsFunc(m.lane.intents, func(other *intent) bool {
		isEarlier := other.turn > 0 && other.turn < one.turn
		return isEarlier && now.ends[other.number] == "" && !slices.Contains(run, other)
	})
}

// create registers first, then creates; what fails after it registered is compensated.
func (m *model) create(now *state) []*state {
	head := now.head
	switch now.phase {
	case requested:
		if now.live != nil {
			return []*state{m.rejected(now, conflictLive)}
		}
		if now.relations != "" {
			return []*state{m.rejected(now, conflictForeign)}
		}
		after := now.copy()
		if head.owner == "" {
			after.phase = skipped
			m.log(after, logged(head, "schedule.registration_skipped"))
		} else {
			after.phase, after.relations = registered, head.registration()
			m.log(after, logged(head, "schedule.registered"))
		}
		if !head.refused {
			m.mayCreate(after, head.scheduled())
		}
		return []*state{after}
	case compensating:
		after := m.end(now, createFailed, now.cause)
		if now.relations.has(stampOf(head.id)) {
			after.relations = ""
		}
		return []*state{after}
	}
	var next []*state
	if head.refused {
		next = append(next, m.fail(now, refusedCode))
	}
	switch {
	case !now.temporal.there && !head.refused, now.temporal.there && now.temporal.stamp == head.id:
		after := m.end(now, created, "")
		if !now.temporal.there {
			after.temporal = head.scheduled()
		}
		after.live, after.wanted, after.revision = head, head.scheduled().definition, ""
		next = append(next, after)
	case now.temporal.there && m.isOurs(now.temporal.stamp):
		next = append(next, m.cleared(now))
	case now.temporal.there:
		next = append(next, m.fail(now, conflictForeign))
	}
	return next
}

// rejected is a create that did not register. Where an attempt got no answer, that is made sure of by a compensation, of
// which there may be an event: nobody has to hear it.
func (m *model) rejected(now *state, cause string) *state {
	compensates := now.copy()
	m.log(compensates, logged(now.head, "schedule.compensation_requested"))
	return m.end(compensates, createFailed, cause)
}

// fail undoes what was registered; where nothing was, the create ends.
func (m *model) fail(now *state, cause string) *state {
	if now.phase == skipped {
		return m.end(now, createFailed, cause)
	}
	after := now.copy()
	after.phase, after.cause = compensating, cause
	m.log(after, logged(now.head, "schedule.compensation_requested"))
	return after
}

// cleared is without a schedule that an ended intent of the lane left in Temporal.
func (m *model) cleared(now *state) *state {
	after := now.copy()
	after.temporal, after.deletes = schedule{}, m.late
	return after
}

// delete takes the schedule away first, then its relationships.
func (m *model) delete(now *state) []*state {
	if now.phase == requested {
		isLegacy := now.live == nil && now.temporal.stamp == ""
		if now.temporal.there && !isLegacy && !m.isOurs(now.temporal.stamp) {
			return []*state{m.end(now, deleteFailed, conflictForeign)}
		}
		after := now.copy()
		if now.temporal.there {
			after = m.cleared(now)
		}
		after.phase = unscheduled
		m.log(after, logged(now.head, "schedule.unscheduled"))
		return []*state{after}
	}
	after := m.end(now, deleted, "")
	isLegacy := now.live == nil && !now.relations.isStamped()
	if isLegacy || (now.live != nil && now.relations.has(stampOf(now.live.id))) {
		after.relations = ""
	}
	after.live, after.wanted, after.revision = nil, definition{}, ""
	return []*state{after}
}

// update writes the whole definition over what is live; with it those updates that wait right behind it, or some.
func (m *model) update(now *state) []*state {
	if now.live == nil || !now.temporal.there {
		return []*state{m.end(now, updateFailed, notLive)}
	}
	if now.temporal.stamp != now.live.id {
		return []*state{m.end(now, updateFailed, conflictForeign)}
	}
	if after := m.sent(now); after != now {
		return []*state{after}
	}
	var next []*state
	m.runs(now, func(run []*intent, named changes, refused bool) bool {
		switch last := run[len(run)-1]; {
		case len(run) > 1 && !m.isInTurn(now, run[:len(run)-1], last):
			return false
		case refused && len(run) == 1:
			next = append(next, m.end(now, updateFailed, refusedCode))
		case !refused:
			wanted := now.wanted.changed(named)
			next = append(next, m.written(now, run, wanted, named))
			if m.late && now.temporal.revision == last.id {
				next = append(next, m.ended(now, run, wanted))
			}
		}
		return true
	})
	return next
}

// runs tells of each run that the head begins: itself, and updates that may be right behind it. An answer of false is
// for none that is longer.
func (m *model) runs(now *state, tell func(run []*intent, named changes, refused bool) bool) {
	var grow func(run []*intent, named changes, refused bool, behind lineup)
	grow = func(run []*intent, named changes, refused bool, behind lineup) {
		if !tell(run, named, refused) {
			return
		}
		for _, follower := range behind.first() {
			if follower.kind == "update" {
				isRefused := follower.refused || (refused && follower.changes.hours == nil)
				grow(append(slices.Clone(run), follower), named.over(follower.changes), isRefused, behind.without(follower))
			}
		}
	}
	grow([]*intent{now.head}, now.head.changes, now.head.refused, now.waiting)
}

// over is what two updates name together.
func (c changes) over(by changes) changes {
	if by.hours != nil {
		c.hours = by.hours
	}
	if by.paused != nil {
		c.paused = by.paused
	}
	if by.note != nil {
		c.note = by.note
	}
	return c
}

func (m *model) written(now *state, run []*intent, wanted definition, named changes) *state {
	after := m.ended(now, run, wanted)
	after.temporal.revision = after.revision
	after.temporal.hours = wanted.hours
	if named.paused != nil {
		after.temporal.paused = wanted.paused
	}
	if named.note != nil {
		after.temporal.note = wanted.note
	}
	return after
}

// sent notes the calls that may take effect late. What comes in between, committed late, parts a run whose call is on
// its way: so they are those of all runs, whatever comes to be written.
func (m *model) sent(now *state) *state {
	after := now
	if m.late {
		m.runs(now, func(run []*intent, named changes, refused bool) bool {
			call := schedule{there: true, revision: run[len(run)-1].id, definition: now.wanted.changed(named)}
			if !refused && !slices.Contains(after.updates, call) {
				updates := append(slices.Clone(after.updates), call)
				after = now.copy()
				after.updates = updates
			}
			return true
		})
	}
	return after
}

// ended is after all updates of a run have ended: the last is the revision.
func (m *model) ended(now *state, run []*intent, wanted definition) *state {
	after := now.copy()
	events := make([]string, len(run))
	after.ends = slices.Clone(now.ends)
	for at, one := range run {
		after.ends[one.number] = updated + " "
		events[at] = logged(one, updated)
	}
	m.log(after, events...)
	after.head, after.phase = nil, ""
	for _, one := range run[1:] {
		after.waiting = after.waiting.without(one)
	}
	after.wanted, after.revision = wanted, run[len(run)-1].id
	m.mayCreate(after, after.scheduled())
	return after
}

// Without the bound.

// mayCreate notes a call that may take effect late: of the create itself, or of a repair.
func (m *model) mayCreate(after *state, call schedule) {
	if m.late && !slices.Contains(after.creates, call) {
		after.creates = append(slices.Clone(after.creates), call)
	}
}

func (m *model) lateCalls(now *state) []*state {
	var next []*state
	if !now.temporal.there {
		for _, call := range now.creates {
			after := now.copy()
			after.temporal = call
			next = append(next, after)
		}
		return next
	}
	if !m.isOurs(now.temporal.stamp) {
		return nil
	}
	if now.deletes {
		after := now.copy()
		after.temporal = schedule{}
		next = append(next, after)
	}
	for _, call := range now.updates {
		after := now.copy()
		call.stamp = now.temporal.stamp
		after.temporal, after.overlaid = call, true
		next = append(next, after)
	}
	return next
}

// repair brings Temporal to what the lane has.
func (m *model) repair(now *state) []*state {
	isOurs := m.isOurs(now.temporal.stamp)
	switch {
	case now.live == nil && now.temporal.there && isOurs:
		return []*state{m.cleared(now)}
	case now.live == nil, now.temporal.there && !isOurs:
		return nil
	case now.temporal.there && now.temporal.stamp == now.live.id && now.temporal.revision == now.revision:
		return nil
	}
	after := now.copy()
	after.temporal, after.overlaid = now.scheduled(), false
	if now.temporal.there && now.temporal.stamp != now.live.id {
		after.deletes = true
	}
	return []*state{after}
}

// What states are made of.

func (m *model) end(now *state, event, cause string) *state {
	after := now.copy()
	after.ends = slices.Clone(now.ends)
	after.ends[now.head.number] = event + " " + cause
	m.log(after, logged(now.head, event))
	after.head, after.phase, after.cause, after.parked = nil, "", "", false
	return after
}

// log adds events that come in any order among themselves, if anybody hears of them.
func (m *model) log(after *state, events ...string) {
	if m.lane.hears {
		after.log = append(append(slices.Clone(after.log), bar), events...)
	}
}

// scheduled is what Temporal is to have of what is live.
func (s *state) scheduled() schedule {
	return schedule{there: true, stamp: s.live.id, revision: s.revision, definition: s.wanted}
}

// scheduled is what a create makes in Temporal.
func (i *intent) scheduled() schedule {
	return schedule{there: true, stamp: i.id, definition: definition{}.changed(i.changes)}
}
