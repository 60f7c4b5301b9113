package linearizable

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// verb is what a client does to its register: a pair of keys, a and b.
type verb uint8

const (
	putA    verb = iota
	deleteA      // says whether it was there
	getA
	getBoth // a range
	swapA   // a becomes value if it is old; else it returns what it is
	putBoth // both become value, in one Txn
	moveA   // b becomes what a is, and a is deleted, if a is old
)

type input struct {
	verb       verb
	old, value string // "": not there
}

type output struct {
	unknown bool // no answer: it may have happened, at any time since
	ok      bool // deleteA: it was there; swapA, moveA: it was old
	pair    pair // what was read
}

// pair is the state of a register.
type pair struct{ a, b string }

// step does the verb and says what it should have returned.
func step(p pair, in input) (pair, output) {
	switch in.verb {
	case putA:
		return pair{in.value, p.b}, output{}
	case deleteA:
		return pair{"", p.b}, output{ok: p.a != ""}
	case getA:
		return p, output{pair: pair{a: p.a}}
	case getBoth:
		return p, output{pair: p}
	case swapA:
		if p.a == in.old {
			return pair{in.value, p.b}, output{ok: true}
		}
		return p, output{pair: pair{a: p.a}}
	case putBoth:
		return pair{in.value, in.value}, output{}
	case moveA:
		if p.a == in.old && in.old != "" {
			return pair{"", in.old}, output{ok: true}
		}
		return p, output{pair: pair{a: p.a}}
	}
	panic(fmt.Sprint("verb ", in.verb))
}

// model is the register for porcupine. An operation without an answer ends with the history, so that
// it can take its place anywhere: at the end, where nobody sees it, is as good as never.
var model = porcupine.Model{
	Init: func() any { return pair{} },
	Step: func(state, in, out any) (bool, any) {
		next, want := step(state.(pair), in.(input))
		got := out.(output)
		return got.unknown || got == want, next
	},
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
}

func describe(in input, out output) string {
	name := []string{"put a", "delete a", "get a", "get both", "swap a", "put both", "move a"}[in.verb]
	switch in.verb {
	case putA, putBoth:
		name += fmt.Sprintf(" %q", in.value)
	case swapA:
		name += fmt.Sprintf(" %q for %q", in.value, in.old)
	case moveA:
		name += fmt.Sprintf(" if %q", in.old)
	}
	if out.unknown {
		return name + " → ?"
	}
	return fmt.Sprintf("%s → %v %q %q", name, out.ok, out.pair.a, out.pair.b)
}
