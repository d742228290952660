package page

import (
	"fmt"
	"html/template"
	"slices"
	"time"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/picture"
	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// Measures of a row: with few workers a bar and the rate below it, else just the bar.
const (
	rowBar, rowRate, rowGap = 12, 22, 14
	thinBar, thinGap        = 6, 3
	rowsWithRates           = 16
)

// seatsOf has a row for each seat: who sat there, and how the rate was.
func seatsOf(res *stress.Result, line *stress.Timeline) section {
	total := line.Intervals[len(line.Intervals)-1].To
	x, ticks := picture.Clock(time.Duration(total), 12)
	rates := len(line.Seats) <= rowsWithRates
	bar, step := float64(thinBar), float64(thinBar+thinGap)
	if rates {
		bar, step = rowBar, rowBar+rowRate+rowGap
	}
	height := int(step)*len(line.Seats) - 2
	if rates {
		height = int(step)*len(line.Seats) - rowGap
	}
	c := picture.NewChart("seats-chart", height, x, picture.Linear{Low: 0, High: float64(height)}, "The workers at each seat over time",
		fmt.Sprintf("%d workers were killed at %d seats, %d of them inside a claim, and replaced; %d were stopped.", res.Killed, len(line.Seats), res.KilledInClaim, res.Stopped))
	var top float64
	for k := range line.Intervals {
		i := &line.Intervals[k]
		for _, n := range i.BySeat {
			if i.From < line.Sending {
				top = max(top, perSecond(n, i))
			}
		}
	}
	c.Columns(ticks)
	for n, seat := range line.Seats {
		y := step * float64(n)
		if rates || n%10 == 0 {
			c.Left(y+bar/2, fmt.Sprintf("seat %d", n))
		}
		if rates {
			rateOf(c, line, n, top, float64(height)-y-step+rowGap)
		}
		for _, s := range seat.Stays {
			c.Box("alive", float64(s.From), float64(s.To), y, bar, stayText(n, s))
		}
		for _, p := range seat.Pauses {
			c.Box("stop", float64(p.From), float64(p.To), y, bar, pauseText(n, p))
		}
		var kills, claims []float64
		for _, k := range seat.Kills {
			kills = append(kills, float64(k.At))
			if k.InClaim > 0 {
				claims = append(claims, float64(k.At))
			}
		}
		c.Rug("kill", kills, y-2, bar+3)
		if rates {
			c.Rug("dot", claims, y-2, 0)
		}
	}
	if line.Sending < total {
		c.Mark("end", float64(line.Sending), -9, float64(height+9))
	}
	legend := []key{{"alive", "a worker is there"}, {"stop", "stopped"}, {"kill", "killed"}}
	note := "point at a bar to see who it was"
	if rates {
		legend = append(legend, key{"claim", "killed inside a claim"}, key{"spark", "messages that arrived from there"})
		note += fmt.Sprintf("; below it the rate, up to %s messages/s", stress.Count(uint64(top)))
	}
	if slices.ContainsFunc(line.Seats, func(s stress.Seat) bool {
		return slices.ContainsFunc(s.Stays, func(s stress.Stay) bool { return s.Workers > 1 })
	}) {
		note += "; where a row is dense, a bar stands for several workers"
	}
	return section{
		Title: "Workers", Legend: legend, Intro: "A row for each seat. Whoever is killed is replaced, now and then after a moment in which the seat is empty.",
		Figures: []figure{{ID: "seats-figure", Title: "Who was there", Note: note, SVG: template.HTML(c.SVG()), Wide: true}},
		Tables:  []table{seatTable(line)},
	}
}

// rateOf fills below a seat's rate; bottom is from the chart's bottom.
func rateOf(c *picture.Chart, line *stress.Timeline, seat int, top, bottom float64) {
	var low, high []picture.Point
	for k := range line.Intervals {
		i := &line.Intervals[k]
		if i.From >= line.Sending { // in the press at the end one has the ring for itself
			break
		}
		at := float64(i.From+i.To) / 2
		low = append(low, picture.Point{X: at, Y: bottom})
		high = append(high, picture.Point{X: at, Y: bottom + rowRate*min(1, perSecond(i.BySeat[seat], i)/max(top, 1))})
	}
	c.Band("spark", low, high)
}

func stayText(seat int, s stress.Stay) string {
	if s.Workers > 1 {
		return fmt.Sprintf("seat %d, %d workers from number %d on, from %s to %s: %s messages, %d killed, %d of them inside a claim",
			seat, s.Workers, s.Incarnation, seconds(s.From), seconds(s.To), stress.Count(s.Sent), s.Killed, s.KilledInClaim)
	}
	end := "left"
	switch {
	case s.KilledInClaim > 0:
		end = "killed inside a claim"
	case s.Killed > 0:
		end = "killed"
	}
	return fmt.Sprintf("worker %d.%d, process %d, from %s to %s: %s messages, %s",
		seat, s.Incarnation, s.PID, seconds(s.From), seconds(s.To), stress.Count(s.Sent), end)
}

func pauseText(seat int, p stress.Pause) string {
	if p.Stops > 1 {
		return fmt.Sprintf("seat %d: %d stops from %s to %s, %s in all", seat, p.Stops, seconds(p.From), seconds(p.To), span(p.Stopped))
	}
	return fmt.Sprintf("seat %d: stopped at %s for %s", seat, seconds(p.From), span(p.Stopped))
}

func seatTable(line *stress.Timeline) table {
	t := table{
		ID: "seats", Title: "The same as a table", Long: true,
		Head: []string{"seat", "workers", "sent", "delivered", "killed", "inside a claim", "stopped", "for"},
	}
	for n, seat := range line.Seats {
		var delivered uint64
		for _, i := range line.Intervals {
			delivered += i.BySeat[n]
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(n), fmt.Sprint(seat.Workers), stress.Count(seat.Sent), stress.Count(delivered),
			fmt.Sprint(seat.Killed), fmt.Sprint(seat.KilledInClaim), fmt.Sprint(seat.Stopped), span(seat.StoppedFor),
		})
	}
	return t
}
