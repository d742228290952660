package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/shmrouter/shmrouter/bench"
)

// Surveys are for pictures: at each place on the x axis all series take turns,
// several times, so that each meets the same machine.

type survey struct {
	name    string // of the file
	title   string
	xTitle  string
	yTitle  string
	x       []float64
	xLabels []string
	series  []series
	key     string // of the measure
	convert func(y float64, x float64) float64
	each    time.Duration
	also    *survey // a second picture of the same runs
}

type series struct {
	name string
	at   func(x float64) spec
	ours bool // drawn strongest
}

// point is what one series has at one x.
type point struct {
	Series  string
	X       float64
	Y       bench.Spread
	Figures map[string]bench.Spread // p50 and so on, as measured
	Skipped string                  `json:",omitempty"`
}

func inTheirSizes(via string, change ...func(*spec)) func(x float64) spec {
	return func(x float64) spec {
		s := spec{kind: kindStream, via: via, size: int(x)}
		for _, f := range change {
			f(&s)
		}
		return s
	}
}

func surveys() []survey {
	sizes := survey{
		name: "throughput", title: "One producer, one consumer", xTitle: "message", yTitle: "million messages per second",
		x: []float64{16, 64, 256, 1 << 10, 4 << 10, 16 << 10}, key: "ns", convert: perSecond, each: 50 * time.Millisecond,
	}
	for _, x := range sizes.x {
		sizes.xLabels = append(sizes.xLabels, bytesText(int(x)))
	}
	for _, via := range []string{"ring", agrona, slots, "channel", "shmipc", "unix", "pipe", "mangos", "zmq", "grpc", "nats", "mq"} {
		sizes.series = append(sizes.series, series{name: shortName(via), at: inTheirSizes(via, gathering), ours: via == "ring"})
	}
	producers := survey{
		name: "producers", title: "Several producers, one consumer, 64 B", xTitle: "producers", yTitle: "million messages per second",
		x: []float64{1, 2, 4, 8, 16}, key: "ns", convert: perSecond, each: 50 * time.Millisecond,
	}
	for _, x := range producers.x {
		producers.xLabels = append(producers.xLabels, fmt.Sprintf("%g", x))
	}
	for _, via := range []string{"ring", agrona, slots, "channel", "unix", "pipe", "shmipc", "nats"} {
		producers.series = append(producers.series, series{name: shortName(via), ours: via == "ring", at: func(x float64) spec {
			return spec{kind: kindStream, via: via, size: 64, senders: int(x), gather: true}
		}})
	}
	rates := survey{
		name: "low-rates-cpu", title: "Processor time of both sides at a paced rate, 64 B, without the pacing", xTitle: "messages per second", yTitle: "processors kept busy",
		x: []float64{100, 1e3, 1e4, 1e5}, xLabels: []string{"100", "1,000", "10,000", "100,000"}, key: "cpu", each: 400 * time.Millisecond,
		also: &survey{name: "low-rates-latency", title: "Latency of a message at a paced rate, median, 64 B", xTitle: "messages per second", yTitle: "microseconds",
			key: "p50", convert: func(y, _ float64) float64 { return y / 1e3 }},
	}
	for _, k := range []struct{ name, via, wait string }{
		{"ring, default", "ring", waitDefault}, {"ring, thrift", "ring", waitThrift}, {"ring, latency", "ring", waitLatency},
		{"unix", "unix", ""}, {"pipe", "pipe", ""}, {"shmipc", "shmipc", ""}, {"nats", "nats", ""},
	} {
		rates.series = append(rates.series, series{name: k.name, ours: k.via == "ring", at: func(x float64) spec {
			return spec{kind: kindPaced, via: k.via, wait: k.wait, rate: x}
		}})
	}
	latency := survey{
		name: "latency", title: "Round trip of 64 B: median, 99 %, 99.9 %", xTitle: "microseconds", x: []float64{0}, xLabels: []string{""},
		key: "p50", convert: func(y, _ float64) float64 { return y / 1e3 }, each: 200 * time.Millisecond,
	}
	for _, k := range []struct {
		name string
		s    spec
	}{
		{"two cache lines (floor)", spec{via: floors, cjob: "lines"}},
		{"fixed slots in C, spinning", spec{via: slots}},
		{"Agrona in C, spinning", spec{via: agrona}},
		{"ring, spinning", spec{via: "ring", wait: waitSpin}},
		{"ring, default", spec{via: "ring"}},
		{"Go channel, one process", spec{via: "channel"}},
		{"futex in C (floor asleep)", spec{via: floors, cjob: "futex"}},
		{"Agrona in C, futexes", spec{via: agrona, asleep: true}},
		{"ring, asleep", spec{via: "ring", wait: waitThrift}},
		{"pipe", spec{via: "pipe"}},
		{"unix socket", spec{via: "unix"}},
		{"POSIX mq", spec{via: "mq"}},
		{"shmipc-go", spec{via: "shmipc"}},
		{"mangos", spec{via: "mangos"}},
		{"zmq4", spec{via: "zmq"}},
		{"gRPC stream", spec{via: "grpc"}},
		{"NATS", spec{via: "nats"}},
	} {
		s := k.s
		s.kind = kindTrip
		latency.series = append(latency.series, series{name: k.name, ours: s.via == "ring", at: func(float64) spec { return s }})
	}
	return []survey{sizes, producers, latency, rates}
}

func perSecond(ns, _ float64) float64 { return 1e3 / ns }

// shortName is for the end of a line in a picture.
func shortName(via string) string {
	switch via {
	case agrona:
		return "Agrona in C"
	case slots:
		return "fixed slots in C"
	case "channel":
		return "Go channel"
	case "grpc":
		return "gRPC"
	case "nats":
		return "NATS"
	case "zmq":
		return "zmq4"
	case "mq":
		return "POSIX mq"
	}
	return via
}

// take makes a survey in so many rounds.
func (s *stage) take(v survey, rounds int, each time.Duration) ([]point, error) {
	var points []point
	for _, x := range v.x {
		var specs []spec
		for _, sr := range v.series {
			specs = append(specs, sr.at(x).withDefaults())
		}
		s.clear(specs)
		here, err := s.takeAt(v, x, specs, rounds, each)
		if err != nil {
			return nil, err
		}
		points = append(points, here...)
	}
	return points, nil
}

func (s *stage) takeAt(v survey, x float64, specs []spec, rounds int, each time.Duration) ([]point, error) {
	sides := make([]side, len(specs))
	n := make([]uint64, len(specs))
	points := make([]point, len(specs))
	figures := make([]map[string][]float64, len(specs))
	for i, sp := range specs {
		points[i] = point{Series: v.series[i].name, X: x, Figures: map[string]bench.Spread{}}
		figures[i] = map[string][]float64{}
		if sp.via == slots && sp.size > slotPayload {
			points[i].Skipped = fmt.Sprintf("a slot holds %d bytes", slotPayload)
			continue
		}
		var err error
		if sides[i], err = s.side(sp); err == nil {
			n[i], err = enough(sides[i], sp, max(each, sp.least(each)))
		}
		switch {
		case errors.Is(err, errSkipped):
			points[i].Skipped = err.Error()
		case err != nil:
			return nil, fmt.Errorf("%s: %w", v.series[i].name, err)
		}
	}
	for range rounds {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		for i, sd := range sides {
			if points[i].Skipped != "" {
				continue
			}
			m, err := sd.run(n[i], false)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.series[i].name, err)
			}
			for key, y := range m {
				figures[i][key] = append(figures[i][key], y)
			}
		}
	}
	for i := range points {
		for key, ys := range figures[i] {
			points[i].Figures[key] = bench.SpreadOf(ys)
		}
	}
	return points, nil
}

// least is how long runs at a low rate take, to have some messages.
func (s spec) least(each time.Duration) time.Duration {
	if s.kind == kindPaced && s.rate <= 1e3 {
		return each * 5 / 2
	}
	return each
}

// slotPayload is what a fixed slot of the C ring holds.
const slotPayload = 128 - 16

// drawn is the points with Y as the picture shows it.
func (v survey) drawn(points []point) []point {
	var out []point
	for _, p := range points {
		y, ok := p.Figures[v.key]
		if !ok {
			continue
		}
		if v.convert != nil {
			y.P50, y.Min, y.Max = v.convert(y.P50, p.X), v.convert(y.Min, p.X), v.convert(y.Max, p.X)
			y.Min, y.Max = min(y.Min, y.Max), max(y.Min, y.Max)
		}
		p.Y = y
		out = append(out, p)
	}
	return out
}
