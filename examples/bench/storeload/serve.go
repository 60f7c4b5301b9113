package storeload

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Client is a connection to a store. Methods may be called at the same time.
type Client interface {
	Put(ctx context.Context, key string, value []byte) error
	// Get reads linearizably.
	Get(ctx context.Context, key string) ([]byte, error)
	// Watch calls started when nothing that is written afterwards will be missed, then event for each
	// put under the prefix, until ctx ends.
	Watch(ctx context.Context, prefix string, started func(), event func(value []byte)) error
}

// Subject is a running store, of one node or several.
type Subject interface {
	// Client is the i-th client's way to the leader. Clients may share one.
	Client(i int) Client
	// Backup writes a backup of the leader.
	Backup(ctx context.Context, w io.Writer) error
	// KillLeader ends the leader without a farewell; clients of Survivor then go to the others.
	KillLeader() error
	Survivor() Client
	// Folder has everything that the subject keeps; Pids are the processes that hold its memory.
	Folder() string
	Pids() []int
}

// Result is what one command answers; which fields have a meaning depends on the command.
type Result struct {
	Error string `json:"error,omitempty"`
	// Rate is per second; the quantiles are of the single calls or deliveries.
	Rate          float64       `json:"rate,omitempty"`
	P50, P99      time.Duration `json:",omitempty"`
	P999          time.Duration `json:",omitempty"`
	Took          time.Duration `json:",omitempty"`
	CPU           time.Duration `json:",omitempty"`      // that the process used for each call
	Bytes         int64         `json:"bytes,omitempty"` // written by fill or backup
	RSS, Anon     int64         `json:",omitempty"`      // resident bytes, and those that map no file
	Disk          int64         `json:",omitempty"`      // bytes that the folder takes
	Missed, Extra int64         `json:",omitempty"`      // deliveries of a watch
}

// Command asks a subject for one measurement: put, get, watch, fill, last, backup, usage or failover.
type Command struct {
	Do      string
	Size    int           `json:",omitempty"` // of a value, in bytes
	Clients int           `json:",omitempty"` // or watchers
	Warm    time.Duration `json:",omitempty"` // not counted
	Time    time.Duration `json:",omitempty"`
	Total   int64         `json:",omitempty"` // bytes of values
	File    string        `json:",omitempty"` // for backup
}

// Serve prints "ready", then answers commands, a line of JSON each, until in ends.
func Serve(ctx context.Context, s Subject, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	scan := bufio.NewScanner(in)
	for scan.Scan() {
		if strings.TrimSpace(scan.Text()) == "" {
			continue
		}
		var c Command
		err := json.Unmarshal(scan.Bytes(), &c)
		var r Result
		if err == nil {
			r, err = do(ctx, s, &c)
		}
		if err != nil {
			r.Error = err.Error()
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, string(line)); err != nil {
			return err
		}
	}
	return scan.Err()
}

func do(ctx context.Context, s Subject, c *Command) (Result, error) {
	switch c.Do {
	case "put":
		return puts(ctx, s, c)
	case "get":
		return gets(ctx, s, c)
	case "watch":
		return watch(ctx, s, c)
	case "fill":
		return fill(ctx, s, c)
	case "last":
		_, err := s.Client(0).Get(ctx, fillKey(c.Total/int64(c.Size)-1))
		return Result{}, err
	case "backup":
		return backup(ctx, s, c)
	case "usage":
		return usage(s)
	case "failover":
		return failover(ctx, s)
	}
	return Result{}, fmt.Errorf("command %q is not known", c.Do)
}
