//go:build modelsteps

package model

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shmrouter/shmrouter/ring"
)

// The ring's code is played under random schedules, one access at a time, and the model goes along with every state that it
// may be in: after each access the model must have a step of the same party that does the same to the same word and
// leaves the same shared memory. A consumer's load that leads to nothing may be one that the model does not have:
// where the ring looks at T[r] three times before it sleeps, the model looks once.

// player is one party of the ring: a claimant, or the consumer.
type player struct {
	id     int // claimant, -1 the consumer
	what   string
	resume chan struct{}
	asleep *atomic.Uint32
	brief  bool // asleep for a moment only
	err    error
	over   bool
	a      *ring.Attachment
	msg    int
}

type play struct {
	t       *testing.T
	m       *model
	r       *ring.Ring
	rnd     *rand.Rand
	players []*player
	current *player
	yield   chan struct{}
	states  map[state]bool
	clock   int64
	log     []string
	moves   map[[2]string]int
	steps   int
	kills   uint8
	free    uint // slots of the dead
	joining bool // a new process is looking for a slot
}

func (p *play) step(what string) {
	if p.current == nil {
		return
	}
	me := p.current
	me.what = what
	p.yield <- struct{}{}
	<-me.resume
}

func (p *play) wait(what string, w *atomic.Uint32, seen uint32, deadline int64) error {
	p.step(what)
	if w.Load() != seen {
		return nil
	}
	me := p.current
	me.asleep, me.what, me.err = w, "asleep", nil
	me.brief = me.id < 0 && deadline-p.clock <= 1_000_000
	p.yield <- struct{}{}
	<-me.resume
	return me.err
}

func (p *play) wake(what string, w *atomic.Uint32, n int) (woken int) {
	p.step(what)
	for _, o := range p.players {
		if o.asleep == w && woken < n {
			o.asleep, o.what = nil, "woken"
			woken++
		}
	}
	return woken
}

func (p *play) now() int64 {
	p.clock += 1000
	switch p.rnd.IntN(12) {
	case 0:
		p.clock += 2_000_000
	case 1, 2:
		p.clock += 60_000
	}
	return p.clock
}

func (p *play) begin(id int, f func(me *player)) *player {
	me := &player{id: id, resume: make(chan struct{}), what: "begin"}
	p.players = append(p.players, me)
	go func() {
		<-me.resume
		f(me)
		me.over = true
		p.yield <- struct{}{}
	}()
	return me
}

// send plays a claimant's script from its message on.
func (p *play) send(me *player, a *ring.Attachment) {
	me.a = a
	pr := a.NewProducer()
	for ; me.msg < len(p.m.Scripts[me.id]); me.msg++ {
		msg := p.m.Scripts[me.id][me.msg]
		n := int(msg.Granules) * ring.Granule
		var err error
		switch {
		case msg.Try:
			if err = pr.TrySend(make([]byte, n), 0); err == ring.ErrFull {
				err = nil
			}
		case msg.isClaim():
			var c ring.Claim
			if c, err = pr.Claim(context.Background(), n, 0); err == nil && msg.Claim {
				err = c.Commit()
			}
			c.Abort()
		default:
			err = pr.Send(context.Background(), make([]byte, n), 0)
		}
		if err != nil {
			p.t.Errorf("claimant %d: %v", me.id, err)
		}
	}
}

// observe puts the ring's words into a state of the model.
func (p *play) observe(s *state) {
	o := p.r.Peek()
	for k := range s.table {
		owner := uint8(o.Owners[k]) + 1
		if o.Owners[k] == 255 {
			owner = padOwner
		}
		s.table[k] = 0
		if o.States[k] != 0 {
			s.table[k] = word(o.States[k]) | word(o.Tags[k])<<tagShift | word(owner)<<7 | word(o.Granules[k])<<10
		}
	}
	s.hint, s.head, s.turn, s.roomWaiters = uint8(o.Hint), uint8(o.Head), uint8(o.Turn), uint8(min(o.Waiters, 1))
	s.sleep.pos, s.sleep.mode = 0, uint8(o.SleepMode)
	if s.sleep.mode != awake {
		s.sleep.pos = uint8(o.SleepPos)
	}
}

func (p *play) agrees(s *state) bool {
	o := *s
	p.observe(&o)
	return o == *s
}

// modelled are the accesses that the model may not leave out.
func modelled(what string) bool {
	for _, table := range [][]access{claimantSteps[:], consumerSteps[:]} {
		for _, a := range table {
			if a.String() == what {
				return true
			}
		}
	}
	return false
}

// follow lets the model do what the ring has just done.
func (p *play) follow(who *player, what string) {
	p.steps++
	p.log = append(p.log, fmt.Sprintf("%d: %s", who.id, what))
	if what == "begin" || what == "woken" {
		return
	}
	next := map[state]bool{}
	add := func(from uint8, s state, steps int) {
		if p.m.fault != nil {
			p.t.Errorf("%v", p.m.fault)
			p.m.fault = nil
		}
		if p.agrees(&s) {
			next[s] = true
			if steps > 0 && who.id >= 0 {
				p.moves[[2]string{claimantAt(from), claimantAt(s.claimants[who.id].pc)}]++
			} else if steps > 0 {
				p.moves[[2]string{consumerAt(from), consumerAt(s.consumer.pc)}]++
			}
		}
	}
	for s := range p.states {
		if who.id >= 0 {
			c := &s.claimants[who.id]
			for c.pc == pcFill {
				p.m.stepCommit(&s, who.id)
			}
			pc := c.pc
			if claimantSteps[pc].String() == what {
				n := s
				p.m.stepClaimant(&n, who.id)
				add(pc, n, 1)
			}
			if what == "cas word" && pc == pcLook && p.m.usual(&s, who.id) { // without a look
				n := s
				p.m.stepClaimant(&n, who.id)
				if n.claimants[who.id].pc == pcClaim {
					p.m.stepClaimant(&n, who.id)
					add(pc, n, 1)
				}
				add(pc, s, 0)
			}
			// A send compares its claim only after somebody has taken one. The wait for room ends by giving the turn back, also where it was not taken.
			if !modelled(what) || what == "load waiters" || what == "load word" && pc == pcStore || what == "ask lock" && pc != pcAskLock || what == "cas turn" && pc != pcTake && pc != pcGiveTurn && pc != pcDropTurn {
				add(pc, s, 0)
			}
			continue
		}
		for s.consumer.pc == csRead {
			p.m.stepConsumer(&s, 0)
		}
		if k := &s.consumer; k.pc == csLook && k.r != s.head && what == "store head" {
			k.pc = csHead // a Poll ends after so many steps, whatever there is
		}
		pc := s.consumer.pc
		if consumerSteps[pc].String() == what {
			choices := p.m.roomChoices(&s)
			if pc == csLook && p.m.mayAsk(&s) {
				choices = 2
			}
			for choice := range choices {
				n := s
				if p.m.stepConsumer(&n, choice) {
					add(pc, n, 1)
				}
			}
		}
		if strings.HasPrefix(what, "load ") || !modelled(what) {
			add(pc, s, 0)
		}
	}
	if len(next) == 0 {
		p.t.Errorf("the model has no such step: %d: %s", who.id, what)
		for s := range p.states {
			o := s
			p.observe(&o)
			pcs := []string{consumerAt(s.consumer.pc)}
			for i := range p.m.Scripts {
				pcs = append(pcs, claimantAt(s.claimants[i].pc))
			}
			p.t.Logf("model %v: %s", pcs, s.describe(p.m))
			p.t.Logf("ring:  %s", o.describe(p.m))
			break
		}
		for k, line := range p.log {
			if k > len(p.log)-25 || strings.Contains(line, "killed") || strings.Contains(line, "new process") || strings.Contains(line, "timeout") {
				p.t.Log(k, line)
			}
		}
		p.t.FailNow()
	}
	p.states = next
}

// naps says whether the model's consumer may be in a short sleep.
func (p *play) naps() bool {
	for s := range p.states {
		if s.consumer.pc == csAsleep && s.consumer.nap == short {
			return true
		}
	}
	return false
}

// each applies an event to every state that the model may be in.
func (p *play) each(f func(s *state)) {
	next := map[state]bool{}
	for s := range p.states {
		f(&s)
		next[s] = true
	}
	p.states = next
}

func (p *play) run() {
	defer func() {
		ring.Hooks.Step, ring.Hooks.Now = nil, nil
	}()
	births := p.m.Rebirths
	for range 5000 {
		var ready []*player
		busy := false
		for _, o := range p.players {
			if o.over {
				continue
			}
			busy = busy || o.id >= 0
			if o.asleep == nil || (p.m.Timeouts || o.brief && p.naps()) && p.rnd.IntN(8) == 0 {
				ready = append(ready, o)
			}
		}
		consumer := p.players[0]
		if !busy && consumer.asleep != nil {
			for s := range p.states {
				if p.m.drained(&s) {
					return
				}
			}
			if !p.m.Timeouts {
				p.t.Errorf("not drained: %v", p.log[max(0, len(p.log)-25):])
				return
			}
		}
		if len(ready) == 0 {
			if !p.m.Timeouts && !(consumer.brief && p.naps()) {
				p.t.Fatalf("everybody sleeps: %v", p.log[max(0, len(p.log)-25):])
			}
			continue
		}
		who := ready[p.rnd.IntN(len(ready))]
		if who.id >= 0 && !p.joining && p.kills > 0 && who.what != "begin" && who.a != nil && p.rnd.IntN(25) == 0 {
			p.kills--
			p.kill(who)
			continue
		}
		if births > 0 && !p.joining && p.rnd.IntN(10) == 0 && p.rebirth() {
			births--
			continue
		}
		what := who.what
		if who.asleep != nil {
			who.asleep, who.err = nil, os.ErrDeadlineExceeded
			what = "woken"
			p.log = append(p.log, fmt.Sprintf("%d: timeout", who.id))
			if !p.m.Timeouts {
				for s := range p.states {
					if s.consumer.nap != short {
						delete(p.states, s)
					}
				}
				p.moves[[2]string{consumerAt(csAsleep), consumerAt(csAwake)}]++
			}
			p.each(func(s *state) {
				if who.id < 0 {
					s.consumer.pc = csAwake
				} else {
					s.claimants[who.id].pc = pcAskTurn
				}
			})
		}
		p.current = who
		who.resume <- struct{}{}
		<-p.yield
		p.current = nil
		if what == "take lock" {
			if who.what != "take lock" {
				p.log = append(p.log, fmt.Sprintf("%d: new process", who.id))
				p.joining = false
				p.each(func(s *state) { p.m.rebirth(s, uint8(who.id)) })
			}
			continue
		}
		p.follow(who, what)
	}
}

func (p *play) kill(who *player) {
	p.log = append(p.log, fmt.Sprintf("%d: killed", who.id))
	who.over, who.asleep = true, nil
	p.free |= 1 << who.id
	ring.Hooks.Step = nil
	who.a.Die()
	ring.Hooks.Step = p.step
	p.each(func(s *state) { p.m.kill(s, uint8(who.id)) })
}

// rebirth begins a new process in the place of a dead one with messages left.
func (p *play) rebirth() bool {
	for k, dead := range p.players {
		if k == 0 || !dead.over || dead.a == nil || bits.TrailingZeros(p.free) != dead.id {
			continue // a new process takes the first free slot
		}
		// Between two messages the model may be ahead: the new process begins where one of its states does.
		msg := -1
		for s := range p.states {
			if msg < 0 {
				msg = int(s.claimants[dead.id].msg)
			}
			if int(s.claimants[dead.id].msg) != msg {
				delete(p.states, s)
			}
		}
		if msg >= len(p.m.Scripts[dead.id]) {
			return false
		}
		me := p.begin(dead.id, func(me *player) {
			a, err := p.r.Attach()
			if err != nil {
				p.t.Error(err)
				return
			}
			p.send(me, a)
		})
		me.msg = msg
		dead.a = nil
		p.free &^= 1 << dead.id
		p.joining = true
		return true
	}
	return false
}

func newPlay(t *testing.T, c Config, rnd *rand.Rand, moves map[[2]string]int) *play {
	kills := c.Kills
	c.Bell, c.Room, c.Batch = true, true, 255
	c.Kills = max(c.Kills, 1) // the ring asks for owners also where nobody dies
	p := &play{kills: kills, t: t, m: newModel(c), rnd: rnd, yield: make(chan struct{}), states: map[state]bool{}, clock: 1 << 40, moves: moves}
	r, err := ring.NewHeap(ring.Options{Capacity: ring.MinCapacity})
	if err != nil {
		t.Fatal(err)
	}
	p.r = r
	p.states[p.m.begin()] = true
	consumer, err := r.Consume(ring.WithWaiting(ring.Thrift))
	if err != nil {
		t.Fatal(err)
	}
	p.begin(-1, func(*player) {
		for {
			if _, err := consumer.Poll(1<<30, func(ring.Frame) ring.Action { return ring.Continue }); err != nil {
				t.Error(err)
			}
			if err := consumer.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range c.Scripts {
		a, err := r.Attach()
		if err != nil {
			t.Fatal(err)
		}
		p.begin(i, func(me *player) { p.send(me, a) }).a = a
	}
	ring.Hooks.Joined = c.Commit == ByStore
	ring.Hooks.Step, ring.Hooks.Wait, ring.Hooks.Wake, ring.Hooks.Now = p.step, p.wait, p.wake, p.now
	return p
}

// plays are the scripts and events that are played.
var plays = []Config{
	{Scripts: []Script{Sends(1, 2), Sends(2, 1)}},
	{Scripts: []Script{Sends(2, 2, 3), Sends(1, 1, 2)}},
	{Scripts: []Script{Sends(2, 3), {{Granules: 2, Abort: true}, {Granules: 1}}, Sends(2)}},
	{Scripts: []Script{{{Granules: 3, Try: true}, {Granules: 2, Claim: true}}, Sends(4), Sends(1, 2)}},
	{Scripts: []Script{Sends(2, 1, 2), Sends(3, 2)}, Kills: 1, Timeouts: true},
	{Scripts: []Script{Sends(2, 1, 2), Sends(3, 2, 1), {{Granules: 2, Abort: true}, {Granules: 1, Abort: true}}}, Kills: 2, Rebirths: 2, Timeouts: true},
	{Scripts: []Script{Sends(4, 3), Sends(3, 4), Sends(2, 3)}, Kills: 2, Timeouts: true},
	{Scripts: []Script{Sends(4, 4), Sends(4, 3), Sends(1, 1, 1)}, Timeouts: true},
	{Scripts: []Script{Sends(1, 1, 1, 1, 1, 1), Sends(1, 2, 1, 2)}},
	{Scripts: []Script{Sends(2, 3, 2), Sends(3, 2, 3), Sends(1, 2)}, Timeouts: true},
	{Commit: ByStore, Scripts: []Script{Sends(1, 2, 1), Sends(2, 1)}},
	{Commit: ByStore, Scripts: []Script{{{Granules: 3, Try: true}, {Granules: 2, Claim: true}}, Sends(4), Sends(1, 2)}},
	{Commit: ByStore, Scripts: []Script{Sends(2, 1, 2), Sends(3, 2, 1), {{Granules: 2, Abort: true}, {Granules: 1, Abort: true}}}, Kills: 2, Rebirths: 2, Timeouts: true},
}

// atLeast and atMost bound the number of runs: between them they end when every move of the model has been seen.
const atLeast, atMost = 400, 8000

func TestAgainstTheRing(t *testing.T) {
	ring.Hooks.Wait = func(string, *atomic.Uint32, uint32, int64) error { return nil }
	ring.Hooks.Wake = func(string, *atomic.Uint32, int) int { return 0 }
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SHMROUTER_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SHMROUTER_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	moves := map[[2]string]int{}
	total, runs := 0, 0
	all := walked()
	missing := func() (list [][2]string) {
		for move := range all {
			if moves[move] == 0 {
				list = append(list, move)
			}
		}
		return list
	}
	for ; runs < atMost && (runs < atLeast || len(missing()) > 0); runs++ {
		c := plays[runs%len(plays)]
		p := newPlay(t, c, rnd, moves)
		p.run()
		total += p.steps
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d runs, %d steps, %d different moves", runs, total, len(moves))
	for _, move := range missing() {
		t.Errorf("the model makes a move that the ring has not been seen to make: %v", move)
	}
}

// walked are the moves that the model makes by itself in the same bounds, on random walks that are the same each time.
// Kills, timeouts and new processes are no moves; a successor consumer's steps are not played.
func walked() map[[2]string]bool {
	rnd := rand.New(rand.NewPCG(1, 2))
	moves := map[[2]string]bool{}
	for walk := range 350 {
		c := plays[walk%len(plays)]
		c.Bell, c.Room, c.Batch = true, true, 255
		c.Kills = max(c.Kills, 1)
		m := newModel(c)
		s := m.begin()
		for range 600 {
			var next []state
			var how []transition
			m.successors(&s, func(n *state, t transition) {
				if t.kind != event || rnd.IntN(20) == 0 {
					next, how = append(next, *n), append(how, t)
				}
			})
			if len(next) == 0 {
				break
			}
			k := rnd.IntN(len(next))
			if n := &next[k]; how[k].kind == step {
				if i := how[k].actor; i >= 0 && s.claimants[i].pc != pcFill {
					moves[[2]string{claimantAt(s.claimants[i].pc), claimantAt(n.claimants[i].pc)}] = true
				} else if i == -1 && s.consumer.pc != csRead {
					moves[[2]string{consumerAt(s.consumer.pc), consumerAt(n.consumer.pc)}] = true
				}
			}
			s = next[k]
		}
	}
	return moves
}

func claimantAt(pc uint8) string { return fmt.Sprintf("pc%d %v", pc, claimantSteps[pc]) }
func consumerAt(pc uint8) string { return fmt.Sprintf("cs%d %v", pc, consumerSteps[pc]) }
