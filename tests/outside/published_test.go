package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func published(t *testing.T, pattern string) map[string]*history {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatal("no histories are published", err)
	}
	found := map[string]*history{}
	for _, path := range paths {
		h, err := readFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(path)] = h
	}
	return found
}

func TestPublishedHistoriesAreExplained(t *testing.T) {
	for name, h := range published(t, "../../docs/histories/*.jsonl.gz") {
		for _, refused := range judge(h).refusals {
			t.Error(name, refused)
		}
	}
}

// Each was recorded with one rule of the product broken: testdata/README.md says which.
func TestHistoriesOfBrokenProductsAreRefused(t *testing.T) {
	for name, h := range published(t, "testdata/*.jsonl.gz") {
		if found := judge(h); len(found.refusals) == 0 {
			t.Error(name, "is explained", found.late)
		} else {
			t.Log(name, len(found.refusals), "refusals, the first:", found.refusals[0])
		}
	}
}

// story is what a history has of one schedule, to be changed at will.
type story struct {
	schedule string
	requests []*request
	rest     int64
	lane     *lane
}

// stories divides a history by schedule, for changes: each request is a copy.
func stories(h *history) []*story {
	found := map[string]*story{}
	lanes, _ := lanesOf(h)
	for _, one := range lanes {
		found[one.schedule] = &story{schedule: one.schedule, lane: one}
	}
	for _, one := range h.requests {
		copied := *one
		if of := found[one.schedule]; of != nil {
			of.requests = append(of.requests, &copied)
			continue
		}
		for _, of := range found {
			if one.what == "rest" {
				of.rest = one.begin
			}
			of.requests = append(of.requests, &copied)
		}
	}
	var all []*story
	for _, name := range sortedKeys(found) {
		all = append(all, found[name])
	}
	return all
}

// those picks requests that were answered.
func (s *story) those(fits func(*request) bool) []*request {
	var found []*request
	for _, one := range s.requests {
		if one.outcome == told && fits(one) {
			found = append(found, one)
		}
	}
	return found
}

// last is what a store was seen to have in the end.
func (s *story) last(store string) *request {
	reads := s.those(func(one *request) bool {
		return one.what == "read" && one.asked.Store == store && one.begin > s.rest
	})
	return reads[len(reads)-1]
}

func (s *story) waits() []*request {
	return s.those(func(one *request) bool { return one.what == "wait" })
}

// ended are the intents that a requester was told to have ended so.
func (s *story) ended(event string) []*intent {
	var found []*intent
	for _, one := range s.lane.intents {
		if slices.ContainsFunc(s.waits(), func(w *request) bool {
			return w.asked.Intent == one.id && w.answer.Event == event
		}) {
			found = append(found, one)
		}
	}
	return found
}

// lives says which intent a schedule stands under in the end.
func (s *story) lives() *intent {
	for _, one := range s.lane.intents {
		if strings.Contains(string(s.last("temporal").answer.Found), one.id) && one.kind == "create" {
			return one
		}
	}
	return nil
}

func (s *story) followsEachOther() bool {
	for at := range s.lane.intents {
		if at > 0 && s.lane.intents[at].begin < s.lane.intents[at-1].end {
			return false
		}
	}
	return true
}

func shows(one *request, found any) {
	one.answer.Found, _ = json.Marshal(found)
}

// changes of a true story that make it one that can't be; each says whether the story has what it needs.
var lies = map[string]func(*story) bool{
	"a create that was told is not there": func(s *story) bool {
		if s.lives() == nil {
			return false
		}
		shows(s.last("temporal"), nil)
		shows(s.last("spicedb"), []string{})
		return true
	},
	"nobody is told of an intent": func(s *story) bool {
		gone := s.waits()[0].asked.Intent
		s.requests = slices.DeleteFunc(s.requests, func(one *request) bool {
			return one.what == "wait" && one.asked.Intent == gone
		})
		return true
	},
	"two answers are swapped": func(s *story) bool {
		won, lost := s.ended(created), s.ended(createFailed)
		if !s.followsEachOther() || len(won) == 0 || len(lost) == 0 {
			return false
		}
		for _, one := range s.waits() {
			switch one.asked.Intent {
			case won[0].id:
				one.asked.Intent = lost[0].id
			case lost[0].id:
				one.asked.Intent = won[0].id
			}
		}
		return true
	},
	"a schedule is seen before it is asked for": func(s *story) bool {
		lives := s.lives()
		if lives == nil {
			return false
		}
		early := *s.last("temporal")
		early.begin, early.end = lives.begin-2, lives.begin-1
		s.requests = append(s.requests, &early)
		return true
	},
	"a schedule runs without its registration": func(s *story) bool {
		lives := s.lives()
		if lives == nil || lives.owner == "" {
			return false
		}
		shows(s.last("spicedb"), []string{})
		return true
	},
	"a former owner keeps access": func(s *story) bool {
		owners := s.ended(created)
		if s.lives() != nil || len(owners) == 0 || owners[0].owner == "" {
			return false
		}
		shows(s.last("spicedb"), strings.Fields(string(owners[0].registration())))
		return true
	},
	"a former owner has access beside the present one": func(s *story) bool {
		lives, owners := s.lives(), s.ended(created)
		if lives == nil || len(owners) < 2 || owners[0].owner == "" || lives.owner == "" || owners[0].owner == lives.owner {
			return false
		}
		shows(s.last("spicedb"), strings.Fields(string(lives.registration().with(relationsOf("owner@"+owners[0].owner)))))
		return true
	},
	"another is registered as the owner": func(s *story) bool {
		lives := s.lives()
		if lives == nil || lives.owner == "" {
			return false
		}
		text := strings.Replace(string(s.last("spicedb").answer.Found), lives.owner, "user:mallory", 1)
		s.last("spicedb").answer.Found = json.RawMessage(text)
		return true
	},
	"a deleted schedule runs again": func(s *story) bool {
		before := s.ended(created)
		if s.lives() != nil || len(before) == 0 {
			return false
		}
		shows(s.last("temporal"), map[string]any{"stamp": before[0].id, "hours": []int{3}})
		return true
	},
	"an update that was told is not there": func(s *story) bool {
		lives, revised := s.lives(), s.ended(updated)
		if lives == nil || len(revised) == 0 || !strings.Contains(string(s.last("temporal").answer.Found), revised[len(revised)-1].id) {
			return false
		}
		shows(s.last("temporal"), map[string]any{"stamp": lives.id, "hours": []int{3}})
		return true
	},
	"what others had in SpiceDB is gone": func(s *story) bool {
		if s.lane.relations == "" || len(s.ended(deleted)) > 0 {
			return false
		}
		shows(s.last("spicedb"), []string{})
		return true
	},
	"what others had in Temporal is another's": func(s *story) bool {
		if !s.lane.temporal.there || len(s.ended(deleted)) > 0 {
			return false
		}
		shows(s.last("temporal"), map[string]any{"stamp": "somebody else", "hours": []int{}})
		return true
	},
	"what was rolled back has taken effect": func(s *story) bool {
		undone := slices.IndexFunc(s.requests, func(one *request) bool {
			return one.what == "enqueue" && one.answer.Error == "rolled back" && one.asked.Kind == "create"
		})
		if undone < 0 {
			return false
		}
		shows(s.last("temporal"), map[string]any{"stamp": s.requests[undone].answer.Intent, "hours": []int{3}})
		return true
	},
	"one key makes two intents": func(s *story) bool {
		again := *s.lane.intents[0].request
		again.answer.Intent += "-2"
		s.requests = append(s.requests, &again)
		return true
	},
	"an intent that was committed is not known": func(s *story) bool {
		again := *s.waits()[0]
		again.outcome = failed
		again.begin, again.end = s.rest+1, s.rest+2
		s.requests = append(s.requests, &again)
		return true
	},
	"what an owner gave is lost": func(s *story) bool {
		if text := string(s.last("spicedb").answer.Found); strings.Contains(text, "reader@") {
			s.last("spicedb").answer.Found = json.RawMessage(strings.Replace(text, `"reader@user:rita",`, "", 1))
			return true
		}
		return false
	},
	"two events are told in the other order": func(s *story) bool {
		heard := s.those(func(one *request) bool {
			return one.what == "hear" && one.answer.Kind == "create" && one.answer.Intent == s.lane.intents[0].id
		})
		if len(heard) < 2 {
			return false
		}
		first, last := &heard[0].answer, &heard[len(heard)-1].answer
		first.Sequence, last.Sequence = last.Sequence, first.Sequence
		*first, *last = *last, *first
		return true
	},
	"an intent ends twice": func(s *story) bool {
		ends := s.those(func(one *request) bool { return one.what == "hear" && one.answer.Terminal })
		if len(ends) == 0 {
			return false
		}
		again := *ends[0]
		again.answer.ID += "-2"
		again.answer.Sequence = "9" + again.answer.Sequence
		again.begin, again.end = s.rest-1, s.rest-1
		s.requests = append(s.requests, &again)
		return true
	},
}

func TestEachLieAboutATrueStoryIsRefused(t *testing.T) {
	tried := map[string]int{}
	for name, h := range published(t, "../../docs/histories/*.jsonl.gz") {
		for lie, tells := range lies {
			for _, one := range stories(h) {
				if !tells(one) {
					continue
				}
				tried[lie]++
				slices.SortStableFunc(one.requests, func(a, b *request) int { return int(a.begin - b.begin) })
				found := judge(&history{h.header, one.requests})
				if len(found.refusals) == 0 {
					t.Errorf("%s, %s: %s, and it is explained", name, one.schedule, lie)
				} else if found.refusals[0].schedule != one.schedule || len(found.refusals[0].requests) == 0 {
					t.Errorf("%s: %s is refused by %s", name, lie, found.refusals[0])
				}
			}
		}
	}
	for lie := range lies {
		if tried[lie] == 0 {
			t.Error("no story could be told with this lie: ", lie)
		}
	}
	t.Log(tried)
}
