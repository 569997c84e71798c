// Reports that run on a schedule: the application's row and the outbox's intent, in one transaction.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	usage = `usage: reports migrate
       reports create NUMBER TITLE AGENT NAME CRON USER
       reports import FILE.json
       reports cancel NUMBER USER`
	failed   = 1
	badInput = 2
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		var refused *Refused
		if errors.As(err, &refused) || errors.Is(err, errUsage) {
			os.Exit(badInput)
		}
		os.Exit(failed)
	}
}

var errUsage = errors.New(usage)

func run(ctx context.Context, words []string) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	command := ""
	if len(words) > 0 {
		command, words = words[0], words[1:]
	}
	switch {
	case command == "migrate" && len(words) == 0:
		return migrate(ctx, pool)
	case command == "create" && len(words) == 6:
		intent, err := order(ctx, pool, Report{words[0], words[1], words[2], words[3], words[4], words[5]})
		return told(ctx, pool, err, intent)
	case command == "import" && len(words) == 1:
		return importAll(ctx, pool, words[0])
	case command == "cancel" && len(words) == 2:
		intent, err := cancel(ctx, pool, words[0], words[1])
		return told(ctx, pool, err, intent)
	}
	return errUsage
}

func importAll(ctx context.Context, pool *pgxpool.Pool, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var reports []Report
	if err = json.Unmarshal(content, &reports); err != nil {
		return err
	}
	intents, err := orderMany(ctx, pool, reports)
	return told(ctx, pool, err, intents...)
}

// told prints what became of intents; an intent that failed is an error.
func told(ctx context.Context, pool *pgxpool.Pool, err error, intents ...Intent) error {
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("WAIT_SECONDS"), "30"))
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer done()
	failures := 0
	for _, intent := range intents {
		found, err := outcome(ctx, pool, intent)
		if err != nil {
			return err
		}
		why := ""
		if found.ErrorCode != "" {
			why = fmt.Sprintf(": %s %s", found.ErrorCode, found.ErrorMessage)
		}
		fmt.Printf("%s %s (%s)%s\n", intent.ScheduleID, found.Status, found.EventType, why)
		if found.Status != "succeeded" {
			failures++
		}
	}
	if failures > 0 {
		return fmt.Errorf("%d of %d did not succeed", failures, len(intents))
	}
	return nil
}
