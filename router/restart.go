package router

import (
	"fmt"
	"time"
)

// RestartWhen says after which ends a worker is started again.
type RestartWhen uint8

const (
	RestartNever     RestartWhen = iota // after none
	RestartOnFailure                    // after an exit with a status other than 0, a death by a signal, or a start that failed
	RestartAlways                       // after every end
)

// String returns the policy in lower case.
func (w RestartWhen) String() string {
	switch w {
	case RestartNever:
		return "never"
	case RestartOnFailure:
		return "on failure"
	case RestartAlways:
		return "always"
	}
	return fmt.Sprintf("RestartWhen(%d)", uint8(w))
}

// Restart is a Command's restart policy. The zero value starts a worker once.
//
// The wait before a restart is Delay at first and doubles with each further one, up to MaxDelay; by chance it is
// up to a half shorter, so that many that died together do not come back together. A life of at least Healthy
// begins the count anew. After Limit restarts without such a life the worker is given up (ErrGaveUp): as they are,
// the defaults do so after three quarters of a minute of immediate failures.
type Restart struct {
	When     RestartWhen   // after which ends
	Delay    time.Duration // 0: 100 ms
	MaxDelay time.Duration // 0: 10 s, or Delay if that is more
	Healthy  time.Duration // 0: 10 s
	Limit    int           // 0: 10; below 0: none
}

// complete fills in the defaults.
func (p *Restart) complete() error {
	if p.When > RestartAlways || p.Delay < 0 || p.MaxDelay < 0 || p.Healthy < 0 {
		return fmt.Errorf("%w: %+v", ErrOption, *p)
	}
	setDefault(&p.Delay, 100*time.Millisecond)
	setDefault(&p.MaxDelay, max(p.Delay, 10*time.Second))
	setDefault(&p.Healthy, 10*time.Second)
	setDefault(&p.Limit, 10)
	return nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// wanted reports whether the policy has a worker started again after a good or a bad end.
func (p *Restart) wanted(good bool) bool {
	return p.When == RestartAlways || p.When == RestartOnFailure && !good
}

// backoff counts the restarts since the last healthy life.
type backoff struct {
	Restart
	count  int
	chance func() float64 // in [0, 1)
}

// next returns how long to wait before the restart after a life, and false if there have been too many.
func (b *backoff) next(lived time.Duration) (wait time.Duration, again bool) {
	if lived >= b.Healthy {
		b.count = 0
	}
	if b.Limit >= 0 && b.count >= b.Limit {
		return 0, false
	}
	wait = b.Delay
	for i := 0; i < b.count && wait < b.MaxDelay; i++ {
		wait *= 2
	}
	b.count++
	wait = min(wait, b.MaxDelay)
	return wait - time.Duration(b.chance()*float64(wait)/2), true
}
