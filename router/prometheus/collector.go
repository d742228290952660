package routerprom

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// Option changes what NewCollector makes.
type Option func(*options)

type options struct {
	name  string
	slots bool
}

// WithName gives every metric the label router="name". Two routers of one registry need different names.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithSlots adds metrics of every worker process's seat in the ring's roster: four series for each that was ever
// taken, and there are at most 255. Seats are used again, by the next process: then instances_total rises, and
// the seat's other counters begin again.
func WithSlots() Option { return func(o *options) { o.slots = true } }

// NewCollector returns a collector of rt's figures, which need not run: see the package's comment. Collecting may
// be concurrent, and looks at every pipe: with ten thousands of them, scrape less often than every second.
func NewCollector(rt *router.Router, opts ...Option) prometheus.Collector {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	c := &collector{rt: rt}
	var constant prometheus.Labels
	if o.name != "" {
		constant = prometheus.Labels{"router": o.name}
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("shmrouter", "", name), help, labels, constant)
	}
	c.up = desc("up", "Whether the router runs.")
	c.pipes = desc("pipes", "Pipes by state: open (no sender has attached), attached (a sender lives), ended, lingering (closed, and the sender lives).", "state")
	for _, f := range figures {
		c.figures = append(c.figures, desc(f.name, f.help))
	}
	if o.slots {
		for _, f := range slotFigures {
			c.slots = append(c.slots, desc(f.name, f.help, "slot"))
		}
	}
	return c
}

type collector struct {
	rt        *router.Router
	up, pipes *prometheus.Desc
	figures   []*prometheus.Desc // as in the table of this name
	slots     []*prometheus.Desc // as in slotFigures; empty without WithSlots
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.up
	ch <- c.pipes
	for _, d := range c.figures {
		ch <- d
	}
	for _, d := range c.slots {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	up := running(c.rt)
	s := c.rt.Stats()
	send(c.up, prometheus.GaugeValue, truth(up))
	for i, f := range figures {
		if up || f.kind == prometheus.CounterValue {
			send(c.figures[i], f.kind, f.of(&s))
		}
	}
	if up {
		for state, n := range map[string]int{
			"open": s.Pipes.Open, "attached": s.Pipes.Attached, "ended": s.Pipes.Ended, "lingering": s.Pipes.Lingering,
		} {
			send(c.pipes, prometheus.GaugeValue, float64(n), state)
		}
	}
	for i, d := range c.slots {
		f := slotFigures[i]
		for _, info := range s.Ring.Slots {
			if up || f.kind == prometheus.CounterValue {
				send(d, f.kind, f.of(info), strconv.Itoa(info.Slot))
			}
		}
	}
}

// running reports whether rt was started and has not stopped.
func running(rt *router.Router) bool {
	done := rt.Done()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type figure[T any] struct {
	name, help string
	kind       prometheus.ValueType
	of         func(T) float64
}

type (
	stats = *router.Stats
	slot  = ring.SlotInfo
)
