package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// The page that -out writes, with its pictures beside it.

const (
	pageName    = "benchmarks-peers.md"
	pictureName = "benchmarks-peers" // the folder
)

const pageHead = `# Benchmarks: the ring beside the best rings in C, and beside its peers

This page is written by a command, figures, tables and pictures:

` + "```" + `
cd bench/peers && go run . -out ../../docs      # everything, about twenty-five minutes
cd bench/peers && go run . -quick               # to the terminal, a minute, three pairs each
` + "```" + `

`

const pageFoot = `## How it is measured

- Sender and receiver are processes, each on a processor of its own unless a row says otherwise, with nothing between them but the transport.
- **Pairs.** A run of the ring and a run of the other, one after the other, which of them first in turn, with the floor measured before, between
  and after. The ratio is of the pair; a table shows the median and the extremes. Only such ratios mean anything: in a virtual machine two
  processors may be two threads of a core now and far apart a second later.
- **States.** "near": all three floors from 90 to 250 ns, two cores that share a cache. "same core": below. "far": above. "mixed": not
  the same all three times. Pairs go on until nine are near, or to forty (line 3c: nine for rates, five for shares; 4b, 4c, paced 6b and the peers: fifteen);
  where fewer than nine are near, all states are shown.
- **Checked.** In timed runs the receiver compares the first eight bytes of each message, which are its number and its sender, with what must
  come next, and its length. Before, in a run of its own, all content is written and compared. A message that is missing, doubled, out of
  order or different ends the contest with an error.
- **The ring's promises are kept**: recovery of killed senders and all checks are on, and the rings in C have neither.
- **Line 4 on one processor**: a consumer that does not watch lets the others on its processor run once before it sleeps, and here mostly need not sleep then.
  A trip that does sleep there takes 1.3 of a raw futex's (docs/decisions/0006-waiting.md).
- **Paced rows.** The sender sleeps to an absolute time where messages are 0.2 ms apart or more, and spins otherwise. What its loop takes
  without sending, measured right before, is subtracted from the processor time of both sides. Latency is from right before Send to the handler.
- **Line 6** is the router's, with its defaults but where a row says LowLatency, in the process that measures; neither side is pinned.
- **Claims** are made by two processes on two processors at once, while nobody reads; what was claimed is read and checked afterwards.
- **Cost of a send** is the median of bursts of 32, each sent when the consumer has emptied the ring.
- In round trips the ring's own look at the clock is part of the figure (about 25 ns); the C programs read the time stamp counter (about 10 ns).
`

// writePage writes the page and its pictures into a folder.
func (r report) writePage(dir string, taken []surveyOf) error {
	pictures := filepath.Join(dir, pictureName)
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	var page bytes.Buffer
	page.WriteString(pageHead)
	r.write(&page)
	if len(taken) > 0 {
		page.WriteString("## Pictures\n\nMedians, with the smallest and largest of all rounds as thin lines; one processor each for the senders and the receiver.\n\n")
	}
	for _, t := range taken {
		for _, p := range t.pictures() {
			file := p.name + ".svg"
			if err := os.WriteFile(filepath.Join(pictures, file), p.svg, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&page, "![%s](%s/%s)\n\n", p.title, pictureName, file)
		}
	}
	writeHow(&page)
	page.WriteString(pageFoot)
	return os.WriteFile(filepath.Join(dir, pageName), page.Bytes(), 0o644)
}

// surveyOf is a survey with what it found.
type surveyOf struct {
	survey
	points []point
}

type picture struct {
	name, title string
	svg         []byte
}

func (t surveyOf) pictures() []picture {
	if len(t.x) == 1 {
		return []picture{{t.name, t.title, t.rows(t.points)}}
	}
	all := []picture{{t.name, t.title, t.lines(t.points)}}
	if t.also != nil {
		v := t.survey
		v.name, v.title, v.yTitle, v.key, v.convert = t.also.name, t.also.title, t.also.yTitle, t.also.key, t.also.convert
		all = append(all, picture{v.name, v.title, v.lines(t.points)})
	}
	return all
}
