package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	attempts = 5
	table    = `
		CREATE TABLE IF NOT EXISTS reports (
			number      text PRIMARY KEY,  -- of the order: asked twice, it is made once
			title       text NOT NULL CHECK (title <> ''),
			schedule_id text NOT NULL,
			intent_id   uuid NOT NULL      -- what outbox.awaited_result takes
		)`
	awaited = `
		SELECT status, event_type, coalesce(error_code, ''), coalesce(error_message, '')
		  FROM outbox.awaited_result($1)`
	kept = `
		INSERT INTO reports (number, title, schedule_id, intent_id) VALUES ($1, $2, $3, $4)
			ON CONFLICT (number) DO NOTHING`
)

// Report is an order: the title is the application's, the rest becomes a schedule.
type Report struct{ Number, Title, Agent, Name, Cron, User string }

// Intent is what the outbox answers to a request.
type Intent struct{ ID, ScheduleID string }

// Outcome is what became of an intent. Pending: nothing yet.
type Outcome struct{ Status, EventType, ErrorCode, ErrorMessage string }

// Refused says what the outbox does not take: OB001 is a bad request, OB002 a used key. Place is the item's, from 0.
type Refused struct{ Code, Field, Place, Reason string }

func (r *Refused) Error() string {
	return fmt.Sprintf("refused (%s), item %s, %s: %s", r.Code, r.Place, r.Field, r.Reason)
}

type principal struct {
	UserID string `json:"user_id"`
}

type request struct {
	Kind           string         `json:"kind,omitempty"`
	AgentID        string         `json:"agent_id"`
	Name           string         `json:"name"`
	WorkflowName   string         `json:"workflow_name,omitempty"`
	TaskQueue      string         `json:"task_queue,omitempty"`
	WorkflowParams map[string]any `json:"workflow_params,omitempty"`
	CronExpression string         `json:"cron_expression,omitempty"`
	Principal      principal      `json:"principal"`
	IdempotencyKey string         `json:"idempotency_key,omitempty"`
}

func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, table)
	return err
}

// Order one report; the intent is committed with its row, or gone with it.
func order(ctx context.Context, pool *pgxpool.Pool, report Report) (intent Intent, err error) {
	err = inTransaction(ctx, pool, func(tx pgx.Tx) error {
		if intent, err = enqueue(ctx, tx, create(report)); err != nil {
			return err
		}
		return keep(ctx, tx, report, intent)
	})
	return intent, err
}

// Order many: all of them or, if one is bad, none.
func orderMany(ctx context.Context, pool *pgxpool.Pool, reports []Report) (intents []Intent, err error) {
	requests := make([]request, len(reports))
	for i, report := range reports {
		requests[i] = create(report)
	}
	err = inTransaction(ctx, pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, "SELECT id::text, schedule_id FROM outbox.enqueue_many($1) ORDER BY ordinal", asJSON(requests))
		if intents, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Intent]); err != nil {
			return err
		}
		for i, report := range reports {
			if err = keep(ctx, tx, report, intents[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return intents, err
}

// Cancel a report: its row goes at once, its schedule when a worker comes to it.
func cancel(ctx context.Context, pool *pgxpool.Pool, number, user string) (intent Intent, err error) {
	err = inTransaction(ctx, pool, func(tx pgx.Tx) error {
		var schedule string
		err := tx.QueryRow(ctx, "DELETE FROM reports WHERE number = $1 RETURNING schedule_id", number).Scan(&schedule)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("there is no report %s", number)
		} else if err != nil {
			return err
		}
		agent, name, _ := strings.Cut(schedule, "--")
		intent, err = enqueue(ctx, tx, request{Kind: "delete", AgentID: agent, Name: name, Principal: principal{user}})
		return err
	})
	return intent, err
}

// What became of an intent; when the context ends, where it stands. Call it after the commit.
func outcome(ctx context.Context, pool *pgxpool.Pool, intent Intent) (found Outcome, err error) {
	connection, err := pool.Acquire(ctx)
	if err != nil {
		return found, err
	}
	listener := connection.Hijack() // its subscription must not go back to the pool
	defer listener.Close(context.WithoutCancel(ctx))
	if _, err = listener.Exec(ctx, "LISTEN outbox_settled"); err != nil {
		return found, err
	}
	for {
		row := listener.QueryRow(ctx, awaited, intent.ID)
		err = row.Scan(&found.Status, &found.EventType, &found.ErrorCode, &found.ErrorMessage)
		if errors.Is(err, pgx.ErrNoRows) {
			return found, fmt.Errorf("there is no intent %s, or it is not committed", intent.ID)
		} else if err != nil || found.Status != "pending" {
			return found, err
		}
		// Notifications come for others' intents, too, and behind a pooler not at all.
		time.Sleep(10 * time.Millisecond)
		nap, done := context.WithTimeout(ctx, time.Second)
		_, err = listener.WaitForNotification(nap)
		done()
		if ctx.Err() != nil {
			return found, nil
		} else if err != nil && !errors.Is(nap.Err(), context.DeadlineExceeded) {
			return found, err
		}
	}
}

func create(report Report) request {
	return request{
		AgentID:        report.Agent,
		Name:           report.Name,
		WorkflowName:   "Report",
		TaskQueue:      "agents",
		WorkflowParams: map[string]any{"title": report.Title},
		CronExpression: report.Cron,
		Principal:      principal{report.User},
		IdempotencyKey: report.Number,
	}
}

func enqueue(ctx context.Context, tx pgx.Tx, asked request) (intent Intent, err error) {
	err = tx.QueryRow(ctx, "SELECT id::text, schedule_id FROM outbox.enqueue($1)", asJSON(asked)).Scan(&intent.ID, &intent.ScheduleID)
	return intent, err
}

func keep(ctx context.Context, tx pgx.Tx, report Report, intent Intent) error {
	_, err := tx.Exec(ctx, kept, report.Number, report.Title, intent.ScheduleID, intent.ID)
	return err
}

func inTransaction(ctx context.Context, pool *pgxpool.Pool, work func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, pool, work)
		var answer *pgconn.PgError
		if !errors.As(err, &answer) {
			return err
		}
		switch answer.Code {
		case "OB001", "OB002":
			reason := strings.TrimPrefix(answer.Message, answer.ColumnName+": ")
			return &Refused{answer.Code, answer.ColumnName, answer.Detail, reason}
		case "40001", "40P01": // a serialization failure, a deadlock: it may go through next time
			if attempt < attempts {
				continue
			}
		}
		return err
	}
}

func asJSON(value any) json.RawMessage {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // plain texts always become JSON
	}
	return encoded
}
