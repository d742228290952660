package main

import (
	"errors"
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/shmrouter/shmrouter/router"
)

// turn is the router's part of a turn of the loop.
type turn func()

// ui is the model of the Bubble Tea program: only its loop touches it.
type ui struct {
	rows     []*row
	quitting bool
}

type row struct {
	name   string
	worker *router.Worker
	report report
	end    string // what became of it; "" while it runs
}

// show has the messages of one job change its row.
func (ui *ui) show(r *row, rcv *router.Receiver) {
	router.NewTyped(rcv, reports).Handle(
		func(v *report, _ router.Message) { r.report = *v },
		nil,
		func(err error) {
			var died *router.PeerError
			switch {
			case errors.As(err, &died) && died.State != nil:
				r.end = "crashed: " + died.State.String()
			case err != nil:
				r.end = err.Error()
			case r.report.Done < r.report.Total:
				r.end = "cancelled"
			default:
				r.end = "done"
			}
		})
}

func (ui *ui) Init() tea.Cmd { return nil }

func (ui *ui) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case turn:
		msg()
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "ctrl+c":
			if ui.quitting {
				return ui, tea.Quit // and Router.Stop kills those that do not end
			}
			ui.quitting = true
			for _, r := range ui.rows {
				r.worker.Receivers()[0].Cancel() // its context ends; what it has sent comes, and then its end
			}
		}
	}
	for _, r := range ui.rows {
		if r.end == "" {
			return ui, nil
		}
	}
	return ui, tea.Quit
}

func (ui *ui) View() tea.View {
	const width = 16 // of a bar
	var b strings.Builder
	for _, r := range ui.rows {
		share := 0.0
		if r.report.Total > 0 {
			share = float64(r.report.Done) / float64(r.report.Total)
		}
		full := int(share * width)
		fmt.Fprintf(&b, "%s  %-7d [%s%s] %3.0f%% %8d primes  %s\n", r.name, r.worker.PID(),
			strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, r.report.Primes, r.end)
	}
	if ui.quitting {
		b.WriteString("stopping; q again does not wait\n")
	} else {
		b.WriteString("q stops the jobs\n")
	}
	return tea.NewView(b.String())
}
