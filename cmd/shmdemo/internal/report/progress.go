package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Progress renews what line says until the function that it returns is called: every so often in place where w is a terminal
// (live), else by a line of its own every ten seconds. A nil w shows nothing.
func Progress(w io.Writer, live bool, every time.Duration, line func() string) (quit func()) {
	if w == nil {
		return func() {}
	}
	if !live {
		every = 10 * time.Second
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-ended:
				if live {
					io.WriteString(w, "\r\x1b[K")
				}
				return
			case <-t.C:
			}
			if live {
				fmt.Fprintf(w, "\r%s\x1b[K", line())
			} else {
				fmt.Fprintln(w, line())
			}
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

// Bar is a share of 0 to 1 as a bar.
func Bar(share float64) string {
	const width = 30
	full := int(share * width)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}
