package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// stage has the processes of the sides that are being compared, and beside
// them two that measure the floor.
type stage struct {
	built   cBinaries
	noC     error // why there are none
	gauge   *bench.Crew
	crews   map[crewKey]*bench.Crew
	ways    map[spec]way    // by wayKey
	ctx     context.Context // ends when the user has seen enough
	folders []string
}

// crewKey is what runs must have in common to use the same processes.
type crewKey struct {
	via      string
	senders  int
	place    bench.Place
	capacity int64
	crowd    bool
}

// claimsCapacity holds all that claims send, and no page of it is new in the
// second run.
const (
	claimsCapacity = 16 << 20
	claimsAtOnce   = claimsCapacity / 64 * 3 / 4
)

func newStage(ctx context.Context) (*stage, error) {
	s := &stage{crews: map[crewKey]*bench.Crew{}, ways: map[spec]way{}, ctx: ctx}
	if s.built, s.noC = buildC(); s.noC != nil && !errors.Is(s.noC, errNoCompiler) {
		return nil, s.noC
	}
	var err error
	s.gauge, err = bench.StartCrew(bench.CrewOptions{Pinned: true, RingOnly: true})
	return s, err
}

func (s *stage) close() {
	if s.gauge != nil {
		s.gauge.Close()
	}
	s.clear(nil)
	for _, dir := range s.folders {
		os.RemoveAll(dir)
	}
}

func keyOf(sp spec) crewKey {
	k := crewKey{via: sp.via, senders: sp.senders, place: sp.place, crowd: sp.kind == kindCrowd}
	if sp.kind == kindClaims {
		k.capacity = claimsCapacity
	}
	return k
}

// clear ends the processes that none of the specs needs.
func (s *stage) clear(needed []spec) {
	keep, keepWay := map[crewKey]bool{}, map[spec]bool{}
	for _, sp := range needed {
		keep[keyOf(sp)], keepWay[wayKey(sp)] = true, true
	}
	for k, w := range s.ways {
		if !keepWay[k] {
			w.Close()
			delete(s.ways, k)
		}
	}
	for k, c := range s.crews {
		if !keep[k] {
			c.Close()
			delete(s.crews, k)
		}
	}
}

// crowdWarm is how long a crowd sends before it is measured, in seconds: all
// attach in it.
const crowdWarm = 0.1

// errSkipped is why a side cannot be measured here.
var errSkipped = errors.New("skipped")

// side makes a spec ready to run.
func (s *stage) side(sp spec) (side, error) {
	program, isC := strings.CutPrefix(sp.via, "c:")
	switch {
	case isC && s.noC != nil:
		return nil, fmt.Errorf("%w: %w", errSkipped, s.noC)
	case sp.spins() && oneProcessor():
		return nil, fmt.Errorf("%w: two that spin take two processors", errSkipped)
	case isC:
		return &cSide{spec: sp, built: s.built, program: program}, nil
	case sp.via == "channel":
		return &channelSide{sp}, nil
	case sp.via == viaRouter || sp.via == viaFunnel:
		return s.walkSide(sp)
	}
	p := peers[sp.via]
	if p == nil {
		return nil, fmt.Errorf("no such peer: %q", sp.via)
	}
	if p.most > 0 && sp.size > p.most {
		return nil, fmt.Errorf("%w: %s takes %d bytes at most", errSkipped, p.name, p.most)
	}
	k := keyOf(sp)
	c := s.crews[k]
	if c == nil {
		dir, err := os.MkdirTemp("", "peers") // in short names, for sockets
		if err != nil {
			return nil, err
		}
		s.folders = append(s.folders, dir)
		c, err = bench.StartCrew(bench.CrewOptions{
			Senders: sp.senders, Pinned: true, Place: sp.place, Capacity: k.capacity, RingOnly: peers[sp.via].shared, Dir: dir,
		})
		if err != nil {
			return nil, err
		}
		s.crews[k] = c
	}
	return &crewSide{sp, c}, nil
}

func (s *stage) walkSide(sp spec) (side, error) {
	w := s.ways[wayKey(sp)]
	if w == nil {
		var err error
		if w, err = startWay(sp); err != nil {
			return nil, err
		}
		s.ways[wayKey(sp)] = w
	}
	return &walkSide{sp, w}, nil
}

// spins reports whether one side would use up its time slice waiting for the
// other.
func (s spec) spins() bool {
	if s.via == floors {
		return s.cjob == "lines" || s.cjob == "record"
	}
	return s.wait == waitSpin || strings.HasPrefix(s.via, "c:") && !s.asleep && s.kind != kindClaims
}

func oneProcessor() bool {
	_, other := bench.TwoCPUs()
	return other < 0
}

// forget drops the processes of a side that failed.
func (s *stage) forget(sp spec) {
	if c := s.crews[keyOf(sp)]; c != nil {
		c.Close()
		delete(s.crews, keyOf(sp))
	}
	if w := s.ways[wayKey(sp)]; w != nil {
		w.Close()
		delete(s.ways, wayKey(sp))
	}
}

// enough finds out how many messages take a side about so long, and warms it
// up with that.
func enough(sd side, sp spec, each time.Duration) (uint64, error) {
	switch sp.kind {
	case kindPaced:
		return max(1, uint64(sp.rate*each.Seconds())), nil
	case kindClaims:
		_, err := sd.run(claimsAtOnce, false)
		return claimsAtOnce, err
	case kindCrowd:
		warm := *sd.(*crewSide)
		warm.seconds = crowdWarm
		_, err := warm.run(1, false)
		return 1, err
	}
	n := uint64(64)
	for settled := 0; ; {
		took, err := timed(sd, sp, n)
		if err != nil {
			return 0, err
		}
		if took >= each/2 {
			if settled++; settled == 2 || took < 2*each {
				return n, nil
			}
		}
		n = max(burstLength, uint64(float64(n)*min(20, float64(each)/float64(max(took, 1)))))
	}
}

// timed is how long a run of n messages takes.
func timed(sd side, sp spec, n uint64) (time.Duration, error) {
	start := time.Now()
	m, err := sd.run(n, false)
	if sp.kind == kindBurst {
		return time.Since(start), err // ns is of a send alone
	}
	return time.Duration(m["ns"] * float64(n)), err
}

// verified is the run of its own in which all content is written and compared.
func verified(sd side, sp spec, n uint64) error {
	if sp.kind == kindCrowd || sp.via == "channel" {
		return nil
	}
	if sp.kind == kindClaims {
		n = min(n, claimsAtOnce)
	}
	if most := uint64(32<<20) / uint64(sp.size); n > most {
		n = most
	}
	_, err := sd.run(max(n, burstLength), true)
	return err
}
