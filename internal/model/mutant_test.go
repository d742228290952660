package model

import (
	"testing"
	"time"
)

// TestMutants breaks the protocol in one place at a time. Each must be found out, as what is said here.
func TestMutants(t *testing.T) {
	two := []Script{Sends(1, 2), Sends(2, 1)}
	tight := []Script{Sends(2, 2), Sends(2)}
	for _, mutant := range []struct {
		want Kind
		Config
	}{
		{Stuck, Config{Mutant: TailFirst, Scripts: two, Kills: 1}},
		{Torn, Config{Mutant: NoLapTag, Scripts: []Script{Sends(1, 2), Sends(2, 2, 1)}}},
		{CommitRefused, Config{Mutant: SkipLiving, Scripts: two}},
		{CommitRefused, Config{Mutant: DeathRemembered, Scripts: two, Kills: 1, Rebirths: 1}},
		{Stuck, Config{Mutant: NoSweep, Scripts: two, Kills: 1, Rebirths: 1}},
		{LostWake, Config{Mutant: WakeOwnRecord, Scripts: two, Bell: true}},
		{LostWake, Config{Mutant: WaitWithoutCmp, Scripts: two, Bell: true}},
		{Stuck, Config{Mutant: HintOnly, Scripts: []Script{Sends(1), Sends(2, 2, 2, 2)}}},
		{CommitRefused, Config{Mutant: PadStore, Scripts: []Script{Sends(2, 2), Sends(1, 1, 1, 2, 1)}}},
		{LostWake, Config{Mutant: QuietAbort, Scripts: []Script{{{Granules: 1, Abort: true}}, Sends(1)}, Bell: true}},
		{Torn, Config{Mutant: HeadFirst, Scripts: []Script{Sends(2, 2), Sends(2, 2)}}},
		{Torn, Config{Mutant: CommitFirst, Scripts: two}},
		{LostWake, Config{Mutant: NoRecheck, Scripts: tight, Room: true, Bell: true}},
		{LostWake, Config{Mutant: SeqAfterFlag, Scripts: []Script{Sends(2, 2), Sends(2, 2)}, Room: true}},
		{LostWake, Config{Mutant: WakeOneWaiter, Scripts: []Script{Sends(4), Sends(1), Sends(1)}, Room: true}},
		{LostWake, Config{Mutant: RestUnminded, Scripts: []Script{Sends(4, 1), Sends(1)}, Room: true, Large: 9, Kills: 1}},
		{Stuck, Config{Mutant: TurnForever, Scripts: []Script{Sends(2, 2), Sends(3)}, Room: true, Kills: 1, Timeouts: true}},
		{LostWake, Config{Mutant: EpisodeRestart, Scripts: []Script{Sends(1, 1)}, Bell: true, Crashes: 1}},
		{LostWake, Config{Mutant: QuietTakeover, Scripts: tight, Room: true, Crashes: 1}},
		{LostWake, Config{Mutant: ShortSleepLap, Scripts: []Script{Sends(1, 1, 2, 2, 2, 1, 1)}, Bell: true}},
		{CommitRefused, Config{Mutant: LeaveEarly, Scripts: []Script{Sends(1), {{Granules: 2, Claim: true}}, Sends(1, 2)}, Slots: []uint8{0, 0, 1}, Leave: true}},
		{Invariant, Config{Mutant: NameLate, Scripts: []Script{Sends(1, 1), Sends(1)}, Names: true, Kills: 1, Rebirths: 1}},
		{LostWake, Config{Mutant: NoMembarrier, Scripts: []Script{Sends(1), Sends(1)}, Bell: true, Buffers: 2, Commit: ByStore}},
		{LostWake, Config{Mutant: Unregistered, Scripts: []Script{Sends(1), Sends(1)}, Bell: true, Buffers: 2, Commit: ByStore}},
	} {
		t.Run(string(mutant.Mutant), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r := Explore(mutant.Config, maxStates)
			t.Log(r, time.Since(began).Round(time.Millisecond))
			expect(t, r, mutant.want)
			if r.Violation != nil {
				compareFault(t, mutant.Mutant, r.Violation)
			}
		})
	}
}

// TestHarmless leaves out what is there for speed or for more than one reason: nothing may be found.
func TestHarmless(t *testing.T) {
	two := []Script{Sends(1, 2), Sends(2, 1)}
	try := []Script{{{Granules: 1}, {Granules: 2, Try: true}}, Sends(2)}
	for _, c := range []Config{
		{Mutant: HintStart, Scripts: two, Kills: 1},
		{Mutant: NoHelp, Scripts: two, Kills: 1},
		{Mutant: QuietPad, Scripts: try, Room: true, Bell: true},
		{Mutant: RungUnheeded, Scripts: []Script{Sends(1, 2), Sends(2)}, Bell: true},
		{Mutant: ShortSleepHeeded, Scripts: []Script{Sends(1, 1, 2, 2, 2, 1, 1)}, Bell: true},
		{Mutant: ReloadBeforeSkip, Scripts: two, Kills: 1, Rebirths: 1},
	} {
		t.Run(string(c.Mutant), func(t *testing.T) {
			t.Parallel()
			r := Explore(c, maxStates)
			t.Log(r)
			expect(t, r, "")
		})
	}
}
