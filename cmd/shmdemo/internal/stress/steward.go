package stress

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/router"
)

// The steward is a main process that the judge may kill: a router that resumes, on a named
// segment. What arrives is written to the judge before the handler returns, so
// that the judge knows of everything that this life has handled. It takes orders, a line
// each, and ends with its input.
//
//	judge ─▶ "pipe", "cancel ID", "close ID", "stop" ─▶ steward
//	judge ◀─ records: kind, flag, length, pipe, data ◀─ steward

// envSteward is in EnvWorker of a steward, followed by its stewardship as JSON.
const envSteward = "main "

// Descriptors of a steward.
const (
	stewardIn  = 3
	stewardOut = 4
)

type stewardship struct {
	Path     string
	Capacity int64
}

// Kinds of records.
const (
	recReady   = 'R' // the router runs; everything it found was told before
	recHave    = 'H' // a pipe of an earlier life
	recPipe    = 'P' // a new one; data: the token
	recMessage = 'M' // flag: it may be a second delivery
	recEnd     = 'E' // flag: its process died; data: the error, where there is one
	recClosed  = 'C' // a pipe is closed
	recFigures = 'S' // data: figures
	recTrouble = 'T' // data: what went wrong
)

const recordHead = 16 // kind u8, flag u8, u16, length u32, pipe u64

type steward struct {
	router *router.Router

	mu  sync.Mutex
	out *os.File
	buf []byte

	pipes map[uint64]*router.Receiver // of the goroutine that takes orders
}

// statsEvery is how often a steward tells its figures.
const statsEvery = 25 * time.Millisecond

// serve is a steward's whole life.
func serve(text string) int {
	s := &steward{out: os.NewFile(stewardOut, "judge"), pipes: map[uint64]*router.Receiver{}}
	var w stewardship
	err := json.Unmarshal([]byte(text), &w)
	if err == nil {
		err = s.serve(w, bufio.NewScanner(os.NewFile(stewardIn, "orders")))
	}
	if err != nil {
		s.tell(recTrouble, 0, 0, []byte(err.Error()))
		return 1
	}
	return 0
}

func (s *steward) serve(w stewardship, orders *bufio.Scanner) (err error) {
	if s.router, err = router.New(router.WithPath(w.Path), router.WithResume(), router.WithCapacity(w.Capacity), router.WithMaxPipes(1024)); err != nil {
		return err
	}
	// The lock of a life that was just killed may still be held.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err = s.router.Start(); !errors.Is(err, ring.ErrConsumerBusy) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return err
	}
	found, err := s.router.Receivers()
	if err != nil {
		return err
	}
	for _, rcv := range found {
		s.tell(recHave, 0, rcv.ID(), nil)
	}
	for _, rcv := range found {
		s.take(rcv)
	}
	s.tell(recReady, 0, 0, nil)
	go func() {
		for ; ; time.Sleep(statsEvery) {
			text, _ := json.Marshal(figuresOf(s.router.Stats()).pack())
			s.tell(recFigures, 0, 0, text)
		}
	}()
	for orders.Scan() {
		if stop, err := s.obey(orders.Text()); stop || err != nil {
			return err
		}
	}
	return nil // the judge is gone
}

func (s *steward) obey(order string) (stop bool, err error) {
	verb, number, _ := strings.Cut(order, " ")
	id, _ := strconv.ParseUint(number, 10, 64)
	rcv := s.pipes[id]
	switch {
	case verb == "pipe":
		far, near, err := s.router.Pipe()
		if err != nil {
			return false, err
		}
		token, err := far.Token()
		if err == nil {
			err = far.Close()
		}
		if err != nil {
			return false, err
		}
		s.take(near)
		s.tell(recPipe, 0, near.ID(), []byte(token))
	case verb == "stop":
		return true, s.router.Stop()
	case verb == "cancel" && rcv != nil:
		return false, rcv.Cancel()
	case verb == "close":
		if rcv != nil {
			if err := rcv.Close(); err != nil {
				return false, err
			}
			delete(s.pipes, id)
		}
		s.tell(recClosed, 0, id, nil)
	}
	return false, nil
}

func (s *steward) take(rcv *router.Receiver) {
	id := rcv.ID()
	s.pipes[id] = rcv
	rcv.Handle(func(m router.Message) {
		var again byte
		if m.Redelivered {
			again = 1
		}
		s.tell(recMessage, again, id, m.Data)
	}, func(err error) {
		var died byte
		var text string
		if err != nil {
			text = err.Error()
			if errors.Is(err, router.ErrPeerDied) {
				died = 1
			}
		}
		s.tell(recEnd, died, id, []byte(text))
	})
}

// tell writes a record. A judge that is gone cannot be told, and there is no use in going on.
func (s *steward) tell(kind, flag byte, id uint64, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = append(s.buf[:0], kind, flag, 0, 0)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(len(data)))
	s.buf = binary.LittleEndian.AppendUint64(s.buf, id)
	s.buf = append(s.buf, data...)
	if _, err := s.out.Write(s.buf); err != nil {
		os.Exit(1)
	}
}

// telling is a record as the judge reads it.
type telling struct {
	kind, flag byte
	id         uint64
	data       []byte // until the next one is read
}

// records reads what a steward tells until it ends. A last record that was cut short was not
// told.
func records(r io.Reader, take func(telling)) error {
	in := bufio.NewReaderSize(r, 1<<16)
	var head [recordHead]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return ended(err)
		}
		n := int(binary.LittleEndian.Uint32(head[4:]))
		if n > maxRecord {
			return fmt.Errorf("a record of %d bytes", n)
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return ended(err)
		}
		take(telling{head[0], head[1], binary.LittleEndian.Uint64(head[8:]), buf[:n]})
	}
}

const maxRecord = 64 << 20

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
