package nodeapi

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func stamp(second int) string {
	return time.Date(2026, 1, 2, 3, 4, second, 5, time.UTC).Format("2006-01-02T15:04:05.000000000Z07:00")
}

func write(t *testing.T, path string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, l := range lines {
		if _, err := io.WriteString(f, l); err != nil {
			t.Fatal(err)
		}
	}
}

func n(i int64) *int64 { return &i }

func TestReadLogsGivesThePartThatIsAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path+".2", stamp(1)+" stdout F one\n", stamp(2)+" stdout P two ")
	write(t, path+".1", stamp(2)+" stdout P and ", "\n"[:0]+"\n", stamp(3)+" stdout F a half\n", stamp(4)+" stderr F oops\n")
	write(t, path, stamp(5)+" stdout F \n", stamp(6)+" stdout F six\n", "torn line\n", stamp(7)+" stdout F unfin")
	// The first file ends in the middle of a record only if a writer was killed: here it has an end.
	write(t, path+".2", "\n")
	since, err := time.Parse(time.RFC3339Nano, stamp(4))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		o    LogOptions
		want string
	}{
		{"all", LogOptions{}, "one\ntwo and a half\noops\n\nsix\n"},
		{"no line", LogOptions{TailLines: n(0)}, ""},
		{"tail in one file", LogOptions{TailLines: n(2)}, "\nsix\n"},
		{"tail across files, parts are one line", LogOptions{TailLines: n(4)}, "and a half\noops\n\nsix\n"},
		{"tail of more than there is", LogOptions{TailLines: n(100)}, "one\ntwo and a half\noops\n\nsix\n"},
		{"since", LogOptions{Since: since}, "oops\n\nsix\n"},
		{"since and tail", LogOptions{Since: since, TailLines: n(1)}, "six\n"},
		{"limit cuts a line", LogOptions{LimitBytes: n(6)}, "one\ntw"},
		{"stream", LogOptions{Stream: "stderr"}, "oops\n"},
		{"times, once a line", LogOptions{Timestamps: true, TailLines: n(3)}, stamp(4) + " oops\n" + stamp(5) + " \n" + stamp(6) + " six\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			if err := ReadLogs(t.Context(), path, tc.o, &out); err != nil {
				t.Fatal(err)
			}
			if out.String() != tc.want {
				t.Errorf("got %q, want %q", out.String(), tc.want)
			}
		})
	}
}

func TestReadLogsOfNothingIsEmpty(t *testing.T) {
	var out strings.Builder
	if err := ReadLogs(t.Context(), filepath.Join(t.TempDir(), "0.log"), LogOptions{}, &out); err != nil || out.Len() > 0 {
		t.Fatalf("%v %q", err, out.String())
	}
}

func TestTailReadsBackwardsAcrossBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	var all []string
	for i := range 3000 {
		all = append(all, fmt.Sprintf("%d%s", i, strings.Repeat("x", i%300)))
		write(t, path, stamp(1)+" stdout F "+all[i]+"\n")
	}
	for _, k := range []int{1, 7, 400, 2999, 3000} {
		var out strings.Builder
		if err := ReadLogs(t.Context(), path, LogOptions{TailLines: n(int64(k))}, &out); err != nil {
			t.Fatal(err)
		}
		if want := strings.Join(all[3000-k:], "\n") + "\n"; out.String() != want {
			t.Errorf("the last %d lines: got %d bytes, want %d", k, out.Len(), len(want))
		}
	}
}

// A follower sees every line once, in order, however often the log is rotated, and ends when its
// writer has.
func TestFollowLosesAndRepeatsNothingAcrossRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	var running atomic.Bool
	running.Store(true)
	const lines = 2000
	go func() {
		defer running.Store(false)
		for i := range lines {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return
			}
			fmt.Fprintf(f, "%s stdout F %d\n", stamp(1), i)
			f.Close()
			if i%50 == 49 {
				for k := 60; k > 1; k-- {
					_ = os.Rename(fmt.Sprintf("%s.%d", path, k-1), fmt.Sprintf("%s.%d", path, k))
				}
				_ = os.Rename(path, path+".1")
			}
		}
	}()
	var out strings.Builder
	if err := ReadLogs(t.Context(), path, LogOptions{Follow: true, Running: running.Load, Poll: time.Millisecond}, &out); err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(out.String())
	if len(got) != lines {
		t.Fatalf("%d lines, want %d", len(got), lines)
	}
	for i, l := range got {
		if l != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, l)
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write(t, path, stamp(1)+" stdout F here\n")
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	err := ReadLogs(ctx, path, LogOptions{Follow: true, Idle: cancel}, &out)
	if err != nil || out.String() != "here\n" {
		t.Fatalf("%v %q", err, out.String())
	}
}
