package model

import (
	"flag"
	"reflect"
	"testing"
	"time"
)

var largeBounds = flag.Bool("model.large", false, "explore the larger configurations too: minutes, and 8 GB")

// maxStates is where an exploration gives up; every configuration here ends below it.
const maxStates = 50_000_000

// configurations each leave something out, so that what they have can be explored to the end.
var configurations = []Config{
	{Name: "claim and commit", Scripts: []Script{Sends(1, 2), Sends(2, 2, 1)}, Kills: 2},
	{Name: "from the end of a lap", Start: 3, Batch: 1, Scripts: []Script{Sends(2, 1), Sends(2, 2)}, Kills: 1},
	{Name: "abort", Scripts: []Script{{{Granules: 1}, {Granules: 2, Abort: true}, {Granules: 1}}, {{Granules: 2, Abort: true}, {Granules: 2}}}, Kills: 1},
	{Name: "a slot taken again, a consumer's crash", Scripts: []Script{Sends(1, 2), Sends(2, 1)}, Kills: 1, Rebirths: 1, Crashes: 1},
	{Name: "two claimants on a slot", Scripts: []Script{Sends(1), Sends(1, 2), Sends(2)}, Slots: []uint8{0, 0, 1}, Kills: 1, Rebirths: 1},
	{Name: "a slot taken again while the ring turns", Scripts: []Script{Sends(1, 1), Sends(2, 2, 2)}, Kills: 1, Rebirths: 1},
	{Name: "leaving with a claim forgotten", Scripts: []Script{{{Granules: 1, Drop: true}}, Sends(1), Sends(2)}, Slots: []uint8{0, 0, 1}, Leave: true, Kills: 1},
	{Name: "leaving with a claim open, the slot taken again", Scripts: []Script{Sends(1), {{Granules: 2, Claim: true}, {Granules: 1}}, Sends(2)}, Slots: []uint8{0, 0, 1}, Leave: true, Rebirths: 1},
	{Name: "seats read while they change hands", Names: true, Leave: true, Scripts: []Script{Sends(1, 1), Sends(1)}, Kills: 1, Rebirths: 1},
	{Name: "inner words renewed", Scrub: true, Scripts: []Script{Sends(2, 2), Sends(3, 1)}, Kills: 1, Rebirths: 1},
	{Name: "store buffers", Buffers: 2, Help: 1, Scripts: []Script{Sends(1, 2), Sends(2, 1)}, Kills: 1},

	{Name: "commit by store, kills", Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1, 2), Sends(2, 1)}, Kills: 1, Rebirths: 1},
	{Name: "commit by store, bell, no timeouts", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1, 2), Sends(2)}},
	{Name: "commit by store, room, no timeouts", Room: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(2, 2), Sends(2)}},
	{Name: "commit by store, aborts", Buffers: 2, Commit: ByStore, Scripts: []Script{{{Granules: 1}, {Granules: 2, Abort: true}}, {{Granules: 2, Abort: true}, {Granules: 1}}}, Kills: 1},
	{Name: "commit by store, a slot taken again, a consumer's crash", Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 1, Rebirths: 1, Crashes: 1},
	{Name: "commit by store, leaving with a claim open", Leave: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), {{Granules: 2, Claim: true}}, Sends(2)}, Slots: []uint8{0, 0, 1}},
	{Name: "commit by store, bell, kills", Bell: true, Timeouts: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), Sends(2)}, Kills: 1, Rebirths: 1},
	{Name: "commit by store, bell, consumer's crash, short, no timeouts", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), Sends(2)}, Crashes: 1},
	{Name: "commit by store, bell, aborts, no timeouts", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{{{Granules: 1, Abort: true}, {Granules: 1}}, Sends(2)}},
	{Name: "commit by store, room, kills", Room: true, Timeouts: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(2), Sends(3)}, Kills: 1},
	{Name: "commit by store, room and bell, short, no timeouts", Room: true, Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(2), Sends(3)}},
	{Name: "bell, no timeouts", Bell: true, Scripts: []Script{Sends(1, 2), Sends(2, 1)}},
	{Name: "bell, aborts, no timeouts", Bell: true, Scripts: []Script{{{Granules: 1, Abort: true}, {Granules: 2}}, {{Granules: 2}, {Granules: 1, Abort: true}}}},
	{Name: "bell, consumer's crash, no timeouts", Bell: true, Scripts: []Script{Sends(1, 2), Sends(2)}, Crashes: 2},
	{Name: "bell, kills", Bell: true, Timeouts: true, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 2},
	{Name: "bell, a slot taken again", Bell: true, Timeouts: true, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 1, Rebirths: 1},

	{Name: "room, no timeouts", Room: true, Scripts: []Script{Sends(2, 2), Sends(2, 1)}},
	{Name: "room, three, no timeouts", Room: true, Scripts: []Script{Sends(2), Sends(2), Sends(2)}},
	{Name: "room, cancelled, no timeouts", Room: true, Scripts: []Script{Sends(2, 2), {{Granules: 2, Cancel: true}, {Granules: 1}}}},
	{Name: "room, aborts, no timeouts", Room: true, Scripts: []Script{Sends(2, 2), {{Granules: 2, Abort: true}, {Granules: 2}}}},
	{Name: "room, consumer's crash, no timeouts", Room: true, Scripts: []Script{Sends(2, 2), Sends(2, 1)}, Crashes: 1},
	{Name: "room, who was woken is killed, no timeouts", Room: true, Large: 9, Scripts: []Script{Sends(4, 2), Sends(2)}, Kills: 1},
	{Name: "room, kills, a slot taken again", Room: true, Timeouts: true, Scripts: []Script{Sends(2, 1), Sends(3)}, Kills: 1, Rebirths: 1},
	{Name: "room, every frame takes the turn, kills", Room: true, Timeouts: true, Large: 1, Scripts: []Script{Sends(2), Sends(4)}, Kills: 1, Asks: 1},
	{Name: "room, no spin, no timeouts", Room: true, NoSpin: true, Scripts: []Script{Sends(2, 2), Sends(2, 1)}},
	{Name: "room, a closed attachment, no timeouts", Room: true, Leave: true, Scripts: []Script{{{Granules: 1}, {Granules: 1, Try: true}}, Sends(4)}, Slots: []uint8{0, 0}},
	{Name: "room, release awaited, no timeouts", Room: true, Scripts: []Script{{{Granules: 2}, {Await: true}, {Granules: 2}}, Sends(2, 1)}},
	{Name: "room and bell, no timeouts", Room: true, Bell: true, Scripts: []Script{Sends(2, 2), Sends(2)}},
	{Name: "room and bell, consumer's crash, no timeouts", Room: true, Bell: true, Scripts: []Script{Sends(2, 2), Sends(2)}, Crashes: 1},
	{Name: "room and bell, kills", Room: true, Bell: true, Timeouts: true, Scripts: []Script{Sends(2, 2), Sends(2)}, Kills: 1},
	{Name: "room and bell, TrySend, no timeouts", Room: true, Bell: true, Scripts: []Script{{{Granules: 1}, {Granules: 2, Try: true}}, Sends(2)}},
}

var largeConfigurations = []Config{
	{Name: "three messages each", Scripts: []Script{Sends(1, 2, 1), Sends(2, 1, 2)}, Kills: 2},
	{Name: "three claimants", Scripts: []Script{Sends(1, 2), Sends(2, 1), Sends(2)}, Kills: 2},
	{Name: "four messages each", Scripts: []Script{Sends(1, 2, 1, 2), Sends(2, 1, 1, 2)}, Kills: 2},
	{Name: "slots taken again, a consumer's crash", Scripts: []Script{Sends(1, 2), Sends(2, 1)}, Kills: 2, Rebirths: 2, Crashes: 1},
	{Name: "two claimants on a slot, longer", Scripts: []Script{Sends(1), Sends(2, 1), Sends(2, 1)}, Slots: []uint8{0, 0, 1}, Kills: 2, Rebirths: 1},
	{Name: "bell, longer, no timeouts", Bell: true, Scripts: []Script{Sends(1, 2, 1), Sends(2, 1)}},
	{Name: "bell, three, no timeouts", Bell: true, Scripts: []Script{Sends(1), Sends(2), Sends(2)}},
	{Name: "bell, longer, consumer's crash, no timeouts", Bell: true, Scripts: []Script{Sends(1, 2), Sends(2, 1)}, Crashes: 2},
	{Name: "bell, kills, slot taken again, consumer's crash", Bell: true, Timeouts: true, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 2, Rebirths: 1, Crashes: 1},
	{Name: "room, three, one large, no timeouts", Room: true, Scripts: []Script{Sends(3), Sends(2), Sends(1)}},
	{Name: "leaving with a claim open, kills", Scripts: []Script{Sends(1), {{Granules: 2, Claim: true}, {Granules: 1}}, Sends(2)}, Slots: []uint8{0, 0, 1}, Leave: true, Rebirths: 1, Kills: 1},
	{Name: "three claimants on a slot", Scripts: []Script{Sends(1, 2), Sends(2), Sends(1, 1)}, Slots: []uint8{0, 0, 0}, Kills: 2, Rebirths: 2},
	{Name: "seats read while they change hands, longer", Names: true, Leave: true, Scripts: []Script{Sends(1, 1), Sends(1)}, Kills: 2, Rebirths: 2},
	{Name: "room, every frame takes the turn, kills, longer", Room: true, Timeouts: true, Large: 1, Scripts: []Script{Sends(1, 2), Sends(4)}, Kills: 1, Asks: 1},
	{Name: "room, a closed attachment, three claimants, no timeouts", Room: true, Leave: true, Scripts: []Script{{{Granules: 1, Try: true}}, Sends(4), {{Granules: 2, Claim: true}}}, Slots: []uint8{0, 0, 1}},
	{Name: "commit by store, bell, kills, a slot taken again", Bell: true, Timeouts: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 1, Rebirths: 1},
	{Name: "commit by store, bell, consumer's crash, no timeouts", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1, 2), Sends(2)}, Crashes: 1},
	{Name: "commit by store, bell, three, no timeouts", Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), Sends(2), Sends(1)}},
	{Name: "commit by store, room and bell, no timeouts", Room: true, Bell: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(2, 2), Sends(2)}},
	{Name: "commit by store, a claim open on leaving", Bell: true, Leave: true, Buffers: 2, Commit: ByStore, Scripts: []Script{Sends(1), {{Granules: 1, Claim: true}}, Sends(2)}, Slots: []uint8{0, 0, 1}},
	{Name: "store buffers, bell, kills", Bell: true, Timeouts: true, Buffers: 2, Help: 1, Scripts: []Script{Sends(1, 2), Sends(2)}, Kills: 1, Rebirths: 1},
	{Name: "room and bell, longer, no timeouts", Room: true, Bell: true, Scripts: []Script{Sends(2, 2), Sends(2, 1)}},
	{Name: "room and bell, three, no timeouts", Room: true, Bell: true, Scripts: []Script{Sends(2), Sends(2), Sends(2)}},
	{Name: "room and bell, kills, longer", Room: true, Bell: true, Timeouts: true, Scripts: []Script{Sends(2, 2), Sends(2, 1)}, Kills: 1},
	{Name: "room and bell, two consumers crash, no timeouts", Room: true, Bell: true, Scripts: []Script{Sends(2, 2), Sends(2)}, Crashes: 2},
}

// TestProtocol explores the protocol as it is: nothing may be found.
func TestProtocol(t *testing.T) {
	all := configurations
	if *largeBounds {
		all = append(all, largeConfigurations...)
	}
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r := Explore(c, maxStates)
			t.Log(r, time.Since(began).Round(time.Millisecond))
			expect(t, r, "")
			compareCounts(t, c, r)
			if r.Resting > 0 && c.Kills == 0 {
				t.Errorf("%d states need a timeout, although nobody was killed", r.Resting)
			}
		})
	}
}

// expect compares the kind of violation found, "" for none, and tells the way to an unexpected one.
func expect(t *testing.T, r Result, want Kind) {
	t.Helper()
	var got Kind
	if r.Violation != nil {
		got = r.Violation.Kind
	}
	if got == "" && !r.Complete {
		t.Error("not explored to the end")
	}
	if got == want {
		return
	}
	t.Errorf("found %q, want %q", got, want)
	if r.Violation != nil {
		for i, line := range r.Violation.Trace {
			t.Logf("%3d %s", i+1, line)
		}
	}
}

// TestStateIsDense: padding would make hashing and comparing a state slow.
func TestStateIsDense(t *testing.T) {
	s := reflect.TypeFor[state]()
	if bytes := leafBytes(s); bytes != s.Size() {
		t.Errorf("state has %d bytes, its fields %d", s.Size(), bytes)
	}
}

func leafBytes(t reflect.Type) (n uintptr) {
	switch t.Kind() {
	case reflect.Array:
		return uintptr(t.Len()) * leafBytes(t.Elem())
	case reflect.Struct:
		for f := range t.NumField() {
			n += leafBytes(t.Field(f).Type)
		}
		return n
	}
	return t.Size()
}
