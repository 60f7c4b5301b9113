package raftstore

import (
	"strings"
	"testing"
)

func TestTheFilesOfAFolderBelongTogether(t *testing.T) {
	note := func(index, term, durable uint64) *snapshotNote {
		return &snapshotNote{Index: index, Term: term, Durable: durable}
	}
	for name, c := range map[string]struct {
		ends
		want string // "" : nothing is wrong
	}{
		"new":                     {ends{first: 1, last: 1, lastTerm: 1, term: 1}, ""},
		"all of it flushed":       {ends{durable: 9, first: 1, last: 9, lastTerm: 1, term: 1}, ""},
		"a cut log":               {ends{durable: 9, first: 5, last: 12, lastTerm: 1, term: 1, note: note(8, 1, 9), noteTerm: 1}, ""},
		"a restored store":        {ends{durable: 1, brought: 1, term: 1, note: note(1, 1, 1)}, ""},
		"a log cut at its end":    {ends{durable: 9, term: 1, note: note(9, 1, 9)}, ""},
		"arrived, not yet noted":  {ends{durable: 30, brought: 30, first: 1, last: 9, lastTerm: 1, term: 2}, ""},
		"arrived, the log is old": {ends{durable: 30, brought: 30, first: 1, last: 9, lastTerm: 1, term: 2, note: note(25, 2, 30)}, ""},
		"arrived, the log starts": {ends{durable: 30, brought: 30, first: 26, last: 27, lastTerm: 2, term: 2, note: note(25, 2, 30)}, ""},

		"an old state file":     {ends{durable: 7, first: 5, last: 12, lastTerm: 1, term: 1, note: note(8, 1, 9)}, "the state file ends at entry 7"},
		"a hole":                {ends{durable: 3, first: 5, last: 12, lastTerm: 1, term: 1}, "the log begins at 5"},
		"an old note":           {ends{durable: 9, first: 7, last: 12, lastTerm: 1, term: 1, note: note(4, 1, 4)}, "the snapshot ends at entry 4"},
		"an old log":            {ends{durable: 9, first: 1, last: 7, lastTerm: 1, term: 1}, "the log ends at 7"},
		"no log":                {ends{durable: 9, term: 1}, "the log ends at 0"},
		"a log before the note": {ends{durable: 9, first: 1, last: 7, lastTerm: 1, term: 1, note: note(9, 1, 9)}, "the snapshot has entry 9"},
		"written after it came": {ends{durable: 40, brought: 30, first: 26, last: 35, lastTerm: 2, term: 2, note: note(25, 2, 30)}, "the log ends at 35"},
		"an old vote":           {ends{first: 1, last: 4, lastTerm: 3, term: 2}, "raft's term is 2"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
