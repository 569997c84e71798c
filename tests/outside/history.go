package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

const (
	format  = "agent-schedule-outbox-history"
	version = 1
	never   = math.MaxInt64
	// A line tells of one schedule; the longest ever seen had 700 bytes.
	longestLine = 1 << 20
)

// header is the first line: what was recorded.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Seed    int64  `json:"seed"`
	Wire    string `json:"wire"`
}

// value holds what any line may say of what was asked, or of what was answered.
type value struct {
	Key            string          `json:"key"`
	Kind           string          `json:"kind"`
	Owner          *string         `json:"owner"`
	CronExpression *string         `json:"cron_expression"`
	Paused         *bool           `json:"paused"`
	Note           *string         `json:"note"`
	Intent         string          `json:"intent"`
	Status         string          `json:"status"`
	Event          string          `json:"event"`
	Code           *string         `json:"code"`
	Store          string          `json:"store"`
	Found          json.RawMessage `json:"found"`
	Relation       string          `json:"relation"`
	ID             string          `json:"id"`
	Sequence       string          `json:"sequence"`
	Terminal       bool            `json:"terminal"`
	Name           string          `json:"name"`
	Error          string          `json:"error"`
}

// outcome says what a client knows in the end.
type outcome string

const (
	told    outcome = "ok"   // it was answered
	failed  outcome = "fail" // it changed nothing, or showed nothing
	unknown outcome = "info" // nobody knows, or the history ends before the answer
)

// request is what one client asked, from its beginning to its answer.
type request struct {
	by, what, schedule string
	asked, answer      value
	outcome            outcome
	begin, end         int64
	lines              [2]int // of the file; the second is 0 where there is no answer
}

func (r *request) String() string {
	lines := fmt.Sprintf("line %d", r.lines[0])
	if r.lines[1] > r.lines[0] {
		lines = fmt.Sprintf("lines %d and %d", r.lines[0], r.lines[1])
	}
	at := float64(r.begin) / 1e9
	return fmt.Sprintf("%s, %.3f s: %s", lines, at, strings.Join(strings.Fields(r.words()), " "))
}

func (r *request) words() string {
	switch r.what {
	case "enqueue":
		by := "nobody"
		if r.asked.Owner != nil {
			by = *r.asked.Owner
		}
		return fmt.Sprintf("%s by %s: %s %s %s", r.asked.Kind, by, r.outcome, r.answer.Intent, r.answer.Error)
	case "wait":
		return fmt.Sprintf("%s is told of %s: %s %s %s", r.by, r.asked.Intent, r.answer.Event, code(r.answer), r.answer.Error)
	case "read", "found":
		return fmt.Sprintf("%s of %s shows %s", r.what, r.asked.Store, r.answer.Found)
	case "hear":
		return fmt.Sprintf("%s hears of %s: %s %s", r.by, r.answer.Intent, r.answer.Event, code(r.answer))
	case "grant":
		return fmt.Sprintf("%s gives %s: %s", r.by, r.asked.Relation, r.outcome)
	default:
		return fmt.Sprintf("%s: %s", r.by, r.what)
	}
}

func code(of value) string {
	if of.Code == nil {
		return ""
	}
	return *of.Code
}

// history is a whole file.
type history struct {
	header   header
	requests []*request
}

// readFile reads a history from a file, which may be compressed.
func readFile(path string) (*history, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if data, err = io.ReadAll(unzipped); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	found, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

// parse reads a history; it refuses what the format does not have.
func parse(data []byte) (*history, error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, longestLine)
	found := &history{}
	asked := map[int64]*request{}
	var last int64
	for number := 1; lines.Scan(); number++ {
		if number == 1 {
			if err := json.Unmarshal(lines.Bytes(), &found.header); err != nil {
				return nil, fmt.Errorf("line 1: %w", err)
			}
			if found.header.Format != format || found.header.Version != version {
				return nil, fmt.Errorf("line 1: not version %d of %s", version, format)
			}
			continue
		}
		var line struct {
			Time     int64  `json:"time"`
			Op       int64  `json:"op"`
			Type     string `json:"type"`
			By       string `json:"by"`
			F        string `json:"f"`
			Schedule string `json:"schedule"`
			Value    value  `json:"value"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if line.Time < last {
			return nil, fmt.Errorf("line %d: its time is before that of the line before", number)
		}
		last = line.Time
		one, isAnswer := asked[line.Op]
		switch {
		case isAnswer && one.lines[1] == 0 && (line.Type == "ok" || line.Type == "fail" || line.Type == "info"):
			one.outcome, one.answer, one.lines[1] = outcome(line.Type), line.Value, number
			one.end = line.Time
			if one.outcome == unknown {
				one.end = never
			}
		case !isAnswer && line.Type == "invoke":
			one = &request{by: line.By, what: line.F, schedule: line.Schedule, asked: line.Value,
				outcome: unknown, begin: line.Time, end: never, lines: [2]int{number, 0}}
			asked[line.Op] = one
			found.requests = append(found.requests, one)
		case !isAnswer && line.Type == "ok":
			// Nobody asked: it holds, or came, at that moment.
			one = &request{by: line.By, what: line.F, schedule: line.Schedule, answer: line.Value,
				outcome: told, begin: line.Time, end: line.Time, lines: [2]int{number, number}}
			asked[line.Op] = one
			found.requests = append(found.requests, one)
		default:
			return nil, fmt.Errorf("line %d: %q is no line of request %d at this place", number, line.Type, line.Op)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if found.header.Format == "" {
		return nil, errors.New("there is no first line")
	}
	return found, nil
}
