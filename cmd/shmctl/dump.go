package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/shmrouter/shmrouter/internal/inspect"
)

type dumpCmd struct {
	Segment string  `arg:"" optional:"" name:"segment" help:"PATH or PID:FD (the only one there is)."`
	From    *uint64 `placeholder:"POSITION" help:"Begin at this record, in granules (head)."`
	Count   int     `placeholder:"N" help:"Show at most so many records (no limit)."`
	Bytes   int     `placeholder:"N" default:"256" help:"Show at most so many bytes of each message, 0 for all (${default})."`
	JSON    bool    `name:"json" help:"Write one JSON object (shmctl schema dump)."`
}

// dumpedMessage is a message in JSON: data holds as many bytes as --bytes allows.
type dumpedMessage struct {
	inspect.Message
	Length int    `json:"length"`
	Data   string `json:"data"`
}

type dumpedPiece struct {
	inspect.Piece
	Messages []dumpedMessage `json:"messages"`
}

// Help is printed with the flags.
func (*dumpCmd) Help() string {
	return `Records are shown from head, the first that is not released, to what was claimed when the command began.
Behind damage it goes on where a consumer's Resync would, says where, and ends with status 1. A consumer that
releases records meanwhile leaves gaps, which are told. Payload is shown as it is: mind who may read it.`
}

// Run dumps.
func (c *dumpCmd) Run(e *env) error {
	if c.Count < 0 || c.Bytes < 0 {
		return usageError{fmt.Errorf("--count %d, --bytes %d: negative", c.Count, c.Bytes)}
	}
	s, err := e.one(c.Segment)
	if err != nil {
		return err
	}
	defer s.Close()
	damaged := false
	write, finish := c.text, func(io.Writer) error { return nil }
	if c.JSON {
		write, finish = c.json(e.stdout, s.Name)
	}
	var werr error
	err = s.Dump(inspect.Range{From: c.From, Count: c.Count}, func(p inspect.Piece) bool {
		damaged = damaged || p.Kind == "damage"
		werr = write(e.stdout, p)
		return werr == nil && e.stdout.err == nil
	})
	if err == nil {
		err = werr
	}
	if ferr := finish(e.stdout); err == nil {
		err = ferr
	}
	if err == nil && damaged {
		return errDamage
	}
	return err
}

func (c *dumpCmd) text(w io.Writer, p inspect.Piece) error {
	if p.Kind != "record" {
		_, err := fmt.Fprintf(w, "%d  %s: %s\n", p.Position, strings.ToUpper(p.Kind), p.Text)
		return err
	}
	owner := fmt.Sprintf("slot %d", p.Slot)
	if p.Slot < 0 {
		owner = "pad"
	}
	if _, err := fmt.Fprintf(w, "%d  %s, %s, %d granules, lap %d, word %s\n", p.Position, p.State, owner, p.Granules, p.Lap, p.Word); err != nil {
		return err
	}
	for i, m := range p.Messages {
		meta := fmt.Sprintf("meta %#x", m.Meta)
		if f := m.Frame; f != nil {
			meta = fmt.Sprintf("%s, pipe %d at %d, number …%d", f.Kind, f.Pipe, f.Index, f.Seq)
		}
		fmt.Fprintf(w, "  message %d: %d bytes, %s\n", i, len(m.Data), meta)
		shown := c.cut(m.Data)
		for line := range strings.Lines(hex.Dump(shown)) {
			fmt.Fprint(w, "    ", line[2:]) // six digits do, for frames to 16 MiB
		}
		if n := len(m.Data) - len(shown); n > 0 {
			fmt.Fprintf(w, "    %d bytes more\n", n)
		}
	}
	return nil
}

func (c *dumpCmd) cut(b []byte) []byte {
	if c.Bytes > 0 && len(b) > c.Bytes {
		return b[:c.Bytes]
	}
	return b
}

// json writes piece by piece: a ring may hold a gigabyte.
func (c *dumpCmd) json(w io.Writer, name string) (write func(io.Writer, inspect.Piece) error, finish func(io.Writer) error) {
	quoted, _ := json.Marshal(name)
	fmt.Fprintf(w, "{\"schema_version\": %d, \"segment\": %s, \"pieces\": [", schemaVersion, quoted)
	between := "\n"
	write = func(w io.Writer, p inspect.Piece) error {
		d := dumpedPiece{Piece: p, Messages: []dumpedMessage{}}
		for _, m := range p.Messages {
			d.Messages = append(d.Messages, dumpedMessage{m, len(m.Data), hex.EncodeToString(c.cut(m.Data))})
		}
		b, err := json.Marshal(d)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s%s", between, b)
			between = ",\n"
		}
		return err
	}
	return write, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, "\n]}")
		return err
	}
}
