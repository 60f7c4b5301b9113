package raftstore

import (
	"errors"
	"testing"
	"time"
)

func TestWhatIsDecidedOfTheMembers(t *testing.T) {
	const day = 24 * time.Hour
	leader := observed{Member: Member{ID: "l", Voter: true, Leader: true, Healthy: true, Version: 1}}
	voter := func(id string) observed {
		return observed{Member: Member{ID: id, Voter: true, Healthy: true, Version: 1}, near: time.Hour}
	}
	dead := func(id string, away time.Duration) observed {
		return observed{Member: Member{ID: id, Voter: true, Version: 1}, away: away}
	}
	fresh := func(id string, near time.Duration) observed {
		return observed{Member: Member{ID: id, Healthy: true, Version: 1}, near: near}
	}
	speaking := func(o observed, version int) observed { o.Version = version; return o }
	for what, c := range map[string]struct {
		ms    []observed
		after time.Duration
		want  decision
	}{
		"nothing to do":                      {[]observed{leader, voter("a"), voter("b")}, day, decision{}},
		"alone":                              {[]observed{leader}, day, decision{}},
		"a new member that is near":          {[]observed{leader, fresh("a", time.Minute)}, day, decision{promote: "a"}},
		"a new member that came just now":    {[]observed{leader, fresh("a", time.Millisecond)}, day, decision{}},
		"one at a time":                      {[]observed{leader, fresh("a", time.Minute), fresh("b", time.Minute)}, day, decision{promote: "a"}},
		"a new member that is ill":           {[]observed{leader, {Member: Member{ID: "a", Version: 1}, near: time.Minute}}, day, decision{}},
		"a dead voter of three stays":        {[]observed{leader, voter("a"), dead("b", 2*day)}, day, decision{}},
		"a dead voter of four goes":          {[]observed{leader, voter("a"), voter("b"), dead("c", 2*day)}, day, decision{remove: "c"}},
		"not before its time":                {[]observed{leader, voter("a"), voter("b"), dead("c", day/2)}, day, decision{}},
		"never, if never is said":            {[]observed{leader, voter("a"), voter("b"), dead("c", 9*day)}, -1, decision{}},
		"two dead of five: one goes first":   {[]observed{leader, voter("a"), voter("b"), dead("c", 2*day), dead("d", 2*day)}, day, decision{remove: "c"}},
		"then the other, for three remain":   {[]observed{leader, voter("a"), voter("b"), dead("d", 2*day)}, day, decision{remove: "d"}},
		"no majority is left without it":     {[]observed{leader, dead("a", 2*day), dead("b", 2*day), dead("c", 2*day)}, day, decision{}},
		"a dead non-voter goes":              {[]observed{leader, {Member: Member{ID: "a", Version: 1}, away: 2 * day}}, day, decision{remove: "a"}},
		"replaced first, removed then":       {[]observed{leader, voter("a"), dead("b", 2*day), fresh("c", time.Minute)}, day, decision{promote: "c"}},
		"all speak more":                     {[]observed{speaking(leader, 2), speaking(voter("a"), 3)}, day, decision{version: 2}},
		"one does not":                       {[]observed{speaking(leader, 2), voter("a")}, day, decision{}},
		"one has not said":                   {[]observed{speaking(leader, 2), speaking(voter("a"), 0)}, day, decision{}},
		"one that is away has not forgotten": {[]observed{speaking(leader, 2), speaking(voter("a"), 2), speaking(dead("b", time.Hour), 0)}, day, decision{}},
	} {
		if got := decide(c.ms, 1, c.after); got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
}

func TestWhoMayBeRemoved(t *testing.T) {
	v := func(id string, healthy bool) Member { return Member{ID: id, Voter: true, Healthy: healthy} }
	for what, c := range map[string]struct {
		ms  []Member
		id  string
		may bool
	}{
		"the last":                     {[]Member{v("a", true)}, "a", false},
		"one of two":                   {[]Member{v("a", true), v("b", true)}, "b", true},
		"the healthy one of two":       {[]Member{v("a", false), v("b", true)}, "b", false},
		"the dead one of three":        {[]Member{v("a", true), v("b", true), v("c", false)}, "c", true},
		"a live one while one is dead": {[]Member{v("a", true), v("b", true), v("c", false)}, "b", false},
		"a non-voter":                  {[]Member{v("a", true), {ID: "n"}}, "n", true},
	} {
		if err := mayRemove(c.ms, c.id); (err == nil) != c.may || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheTableOfHealthSaysWhatIsWrong(t *testing.T) {
	now := time.Unix(1000, 0)
	for what, c := range map[string]struct {
		h       *memberHealth
		healthy bool
	}{
		"never heard of":  {nil, false},
		"never heard":     {&memberHealth{err: errors.New("refused")}, false},
		"well":            {&memberHealth{heard: now.Add(-time.Second), status: memberStatus{applied: 990}}, true},
		"silent":          {&memberHealth{heard: now.Add(-time.Minute), status: memberStatus{applied: 990}}, false},
		"its disk failed": {&memberHealth{heard: now, status: memberStatus{applied: 990, failure: "full"}}, false},
		"far behind":      {&memberHealth{heard: now, status: memberStatus{applied: 1}}, false},
	} {
		var m Member
		describe(&m, c.h, now, 2000)
		if m.Healthy != c.healthy || (m.Problem == "") != c.healthy {
			t.Errorf("%s: %+v", what, m)
		}
	}
}

// A session is replicated state: the same requests bring the same outcomes, whatever was kept.
func TestASessionDoesEachRequestOnce(t *testing.T) {
	ss := sessions{byClient: map[uint64]*session{}}
	id := ss.open(1)
	do := func(seq, floor uint64) (r result, done bool) {
		q := request{client: id, seq: seq, floor: floor}
		done = ss.done(q, 2, &r)
		if !done {
			r.txn.Revision = int64(seq) * 10
			ss.remember(q, &r)
		}
		return r, done
	}
	for _, c := range []struct {
		seq, floor uint64
		done       bool
		rev        int64
		err        error
	}{
		{1, 1, false, 10, nil}, {1, 1, true, 10, nil}, {3, 1, false, 30, nil}, {2, 1, false, 20, nil},
		{3, 2, true, 30, nil}, {1, 2, true, 0, ErrUncertain}, {9, 9, false, 90, nil}, {3, 2, true, 0, ErrUncertain},
	} {
		r, done := do(c.seq, c.floor)
		if done != c.done || r.txn.Revision != c.rev || r.err != c.err {
			t.Errorf("%+v: %+v %v", c, r, done)
		}
	}
	if n := len(ss.byClient[id].results); n != 1 {
		t.Errorf("%d outcomes are kept", n)
	}
	for range maxSessions {
		ss.open(3)
	}
	if r, done := do(10, 9); !done || r.err != errSessionLost {
		t.Error(r, done)
	}
	s, err := decodeSession((&session{floor: 3, used: 4, results: map[uint64]result{5: {txn: TxnResult{Succeeded: true, Revision: 6,
		Results: []OpResult{{KVs: []KV{{Key: "k", Value: []byte("v"), ModRevision: 3}}, Deleted: 1}}}, err: ErrFenced}}}).encode())
	if err != nil || s.floor != 3 || s.used != 4 {
		t.Fatal(s, err)
	}
	r := s.results[5]
	if r.err != ErrFenced || !r.txn.Succeeded || r.txn.Revision != 6 || string(r.txn.Results[0].KVs[0].Value) != "v" || r.txn.Results[0].Deleted != 1 {
		t.Fatalf("%+v", r)
	}
}
