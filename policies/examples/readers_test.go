package examples

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// hostless are host functions that do nothing: for modules that are called by hand.
func hostless() []guest.HostModule {
	const i32, i64 = guest.I32, guest.I64
	types := func(t ...guest.ValueType) []guest.ValueType { return t }
	zero := func(_ context.Context, _ *guest.Instance, stack []uint64) error { stack[0] = 0; return nil }
	return []guest.HostModule{{Name: "pintle", Funcs: []guest.HostFunc{
		{Name: "intern", Params: types(i32, i32), Results: types(i32), Call: zero},
		{Name: "log", Params: types(i32, i32, i32), Call: func(context.Context, *guest.Instance, []uint64) error { return nil }},
		{Name: "now_ms", Results: types(i64), Call: zero},
		{Name: "lookup", Params: types(i32, i32), Results: types(i64), Call: zero},
	}}}
}

// send gives a message to an export and returns a copy of the answer.
func send(ctx context.Context, in *guest.Instance, export string, message []byte) ([]byte, error) {
	at, err := in.Call(ctx, "pintle_alloc", uint64(len(message)))
	if err != nil {
		return nil, err
	}
	if err := in.Write(uint32(at), message); err != nil {
		return nil, err
	}
	result, err := in.Call(ctx, export, at, uint64(len(message)))
	if err != nil || result == 0 {
		return nil, err
	}
	answer, err := in.ReadAnswer(uint32(result>>32), uint32(result))
	return slices.Clone(answer), err
}

// damage makes a message that nobody would send: bytes are changed, cut off, doubled, or a length is made to lie.
func damage(r *rand.Rand, message []byte) []byte {
	m := slices.Clone(message)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(m))
		switch r.IntN(5) {
		case 0:
			m[at] = byte(r.Uint32())
		case 1:
			m = m[:at+1]
		case 2:
			m = slices.Insert(m, at, m[at:min(len(m), at+1+r.IntN(20))]...)
		case 3:
			m = slices.Insert(m, at, binary.AppendUvarint(nil, r.Uint64()>>r.IntN(64))...)
		case 4:
			m[at] ^= 1 << r.IntN(8)
		}
	}
	return m
}

// sound says that what a message has of objects is JSON, and UTF-8.
func sound(message []byte) bool {
	var r abi.AdmissionRequest
	if r.Decode(message) != nil {
		return false
	}
	for _, o := range []abi.Object{r.Object, r.OldObject} {
		if raw, ok := o.(abi.RawObject); ok && !(json.Valid(raw) && utf8.Valid(raw)) {
			return false
		}
	}
	return true
}

// A message that lies about its lengths ends with a trap or with an answer, in any language; those that answer agree, as long
// as what they read of objects is JSON, and UTF-8.
func TestReadersAgreeAboutDamagedMessages(t *testing.T) {
	const rounds = 400
	request := write(t, abi.Update, pod(`{"containers": [{"name": "a\n", "image": "registry.example/x"}, {"name": "b", "image": "y"}]}`), pod(`{"containers": []}`))
	request.Meta.Labels = abi.Pairs(map[string]string{"team": "a", "tier": "b", "zone": "c"})
	request.OldMeta.Labels = request.Meta.Labels
	whole, err := request.Append(nil, abi.JSON)
	if err != nil {
		t.Fatal(err)
	}
	settings := abi.Settings{Version: abi.Version, JSON: []byte(`{"labels": ["team", "zone"], "registries": ["registry.example"]}`)}
	runtime, err := guest.New(guest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.Close(t.Context())
	answers := map[int]map[string]string{} // by round and language
	for _, language := range sdktest.Languages() {
		module, err := runtime.Compile(t.Context(), sdktest.Need(t, "required-labels", language), hostless())
		if err != nil {
			t.Fatal(err)
		}
		pool, err := module.NewPool(guest.PoolConfig{Init: func(ctx context.Context, in *guest.Instance) error {
			if in.Exports("_initialize") {
				if _, err := in.Call(ctx, "_initialize"); err != nil {
					return err
				}
			}
			_, err := send(ctx, in, "pintle_configure", settings.Append(nil))
			return err
		}})
		if err != nil {
			t.Fatal(err)
		}
		r, answered := rand.New(rand.NewPCG(1, 2)), 0
		for round := range rounds {
			if language == sdktest.Go && round > 60 {
				break // a trap costs it an instance of milliseconds
			}
			message := damage(r, whole)
			if round == 0 {
				message = whole
			}
			var answer []byte
			_, err := pool.Do(t.Context(), func(ctx context.Context, in *guest.Instance) (err error) {
				answer, err = send(ctx, in, "pintle_admit", message)
				return err
			})
			if err != nil {
				if !strings.Contains(err.Error(), "unreachable") {
					t.Errorf("%s, round %d: %v", language, round, err)
				}
				continue
			}
			var response abi.AdmissionResponse
			if err := response.Decode(answer); err != nil {
				if strings.Contains(err.Error(), "UTF-8") { // what it repeats of the message isn't
					continue
				}
				t.Errorf("%s, round %d: the answer is malformed: %v", language, round, err)
			}
			answered++
			if !sound(message) {
				continue // what is no JSON may read as anything
			}
			if answers[round] == nil {
				answers[round] = map[string]string{}
			}
			answers[round][fmt.Sprintf("%+v", response)] += " " + string(language)
		}
		if err := pool.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if answered < 5 || answered == rounds {
			t.Errorf("%s: %d of %d damaged messages were answered: the test says nothing", language, answered, rounds)
		}
	}
	for round, a := range answers {
		if len(a) > 1 {
			t.Errorf("round %d: they disagree: %v", round, a)
		}
	}
}
