package router

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/shmrouter/shmrouter/internal/wire"
)

// oracle judges many lives of a router by what was noted outside of it: the
// diaries of the workers and the log of the lives; and, at each death, by the
// bytes of the segment's file, which it reads by docs/protocol.md.
type oracle struct {
	dir   string
	log   *logbook
	read  uint64 // lines judged
	wrong []string
	pipes map[uint64]*pipeBook
	books map[uint32]*diary
	lists map[uint32]map[uint64]bool // receivers that a life found
	ready map[uint32]bool
	began map[uint32]int64 // when Start had returned

	again, messages int // delivered twice, and in all
}

// pipeBook is what is known about a pipe.
type pipeBook struct {
	id      uint64
	made    uint32 // in this life
	serial  uint32
	seen    map[uint64]*letterBook // by number
	in      uint32                 // the life that delivered last
	last    uint64                 // what it delivered last
	left    []uint64               // numbers that lay in the ring when the last life had died
	taken   int                    // of these, what the present life has delivered
	settled uint64                 // numbers up to this were acknowledged and handled, or failed
	closing uint32                 // the life that called ClosePipe
	closed  bool
	ends    []endBook
}

type letterBook struct {
	seq  uint64
	life uint32
	done bool // a handler has returned
	line uint64
}

type endBook struct {
	life uint32
	died bool
	line uint64
}

func newOracle(dir string, log *logbook) *oracle {
	return &oracle{
		dir: dir, log: log, pipes: map[uint64]*pipeBook{}, books: map[uint32]*diary{},
		lists: map[uint32]map[uint64]bool{}, ready: map[uint32]bool{}, began: map[uint32]int64{},
	}
}

func (o *oracle) fail(format string, args ...any) {
	if len(o.wrong) < 20 {
		o.wrong = append(o.wrong, fmt.Sprintf(format, args...))
	}
}

func (o *oracle) pipe(id uint64) *pipeBook {
	p := o.pipes[id]
	if p == nil {
		p = &pipeBook{id: id, seen: map[uint64]*letterBook{}}
		o.pipes[id] = p
	}
	return p
}

// readLog judges what the life has noted. It is dead, or at rest.
func (o *oracle) readLog(life uint32) {
	for end := o.log.count.Load(); o.read < end; o.read++ {
		line := &o.log.lines[o.read]
		p := o.pipe(line.id)
		switch line.kind {
		case lineStart:
			o.began[life] = line.at
			o.lists[life] = map[uint64]bool{}
		case lineListed:
			o.lists[life][line.id] = true
			if !p.closed {
				p.closing = 0 // it did not come to it, and nothing was discarded
			}
		case lineReady:
			o.ready[life] = true
		case lineMade:
			if p.made != 0 || p.serial != 0 || o.lists[life][line.id] {
				o.fail("life %d: id %d is used twice", life, line.id)
			}
			p.made, p.serial = life, line.serial
		case lineMessage:
			o.message(life, p, line)
		case lineEnd:
			p.ends = append(p.ends, endBook{life, line.number != 0, o.read})
		case lineClosing:
			p.closing = life
		case lineClosed:
			p.closed = true
		}
	}
	o.checkList(life)
}

// message judges one delivery.
func (o *oracle) message(life uint32, p *pipeBook, line *logLine) {
	flags := line.flags.Load()
	marked := flags&flagMarked != 0
	o.messages++
	what := func() string {
		return fmt.Sprintf("life %d, pipe %d, message %d of worker %d", life, p.id, line.number, line.serial)
	}
	if flags&flagTorn != 0 {
		o.fail("%s: torn", what())
		return
	}
	switch d := o.books[line.serial]; {
	case line.serial != p.serial:
		o.fail("%s: the pipe is worker %d's", what(), p.serial)
		return
	case d == nil || line.number >= maxNumbers || d.fate[line.number].Load() == fateNone:
		o.fail("%s: nobody meant to send it", what())
		return
	}
	if p.closing != 0 && p.closing < life {
		o.fail("%s: the pipe was being closed in life %d", what(), p.closing)
	}
	if n := len(p.ends); n > 0 && p.ends[n-1].life == life {
		o.fail("%s: behind the end", what())
	}
	if p.in != life {
		p.in, p.last, p.taken = life, 0, 0
	}
	if line.number <= p.last {
		o.fail("%s: behind number %d", what(), p.last)
	}
	p.last = line.number
	// What lay in the ring at the last death comes first, all of it, marked.
	if p.taken < len(p.left) {
		if want := p.left[p.taken]; line.number != want {
			o.fail("%s: number %d lay in the ring before it", what(), want)
		}
		if !marked {
			o.fail("%s: it lay in the ring when this life began, and is not marked", what())
		}
		p.taken++
	} else if before := p.seen[line.number]; before != nil {
		o.fail("%s: delivered by life %d, and not in the ring when that had died", what(), before.life)
	}
	if marked && line.at > o.began[life] {
		o.fail("%s: sent after this life began, and marked", what())
	}
	before := p.seen[line.number]
	if before == nil {
		p.seen[line.number] = &letterBook{seq: line.seq, life: life, done: flags&flagDone != 0, line: o.read}
		return
	}
	o.again++
	if before.seq != line.seq {
		o.fail("%s: number %d in the pipe, and %d in life %d", what(), line.seq, before.seq, before.life)
	}
	before.life = life
	before.done = before.done || flags&flagDone != 0
}

// checkList compares the receivers that a life found with the pipes that were
// open, as far as anybody can know.
func (o *oracle) checkList(life uint32) {
	if !o.ready[life] {
		return
	}
	o.ready[life] = false
	list := o.lists[life]
	for id, p := range o.pipes {
		switch {
		case p.made == 0 || p.made >= life:
		case p.closing == 0 || p.closing >= life:
			if !list[id] {
				o.fail("life %d: pipe %d is gone, made in life %d, ends %v", life, id, p.made, p.ends)
			}
		case p.closed && list[id]:
			o.fail("life %d: pipe %d is open, closed in life %d", life, id, p.closing)
		}
	}
}

// dead judges the segment that a dead life has left. Workers send on meanwhile.
func (o *oracle) dead(life uint32) error {
	o.readLog(life)
	acked := map[uint64][]uint64{} // by pipe; read before the ring is
	for id, p := range o.pipes {
		if d := o.books[p.serial]; d != nil {
			used := d.used.Load()
			for n := p.settled + 1; n <= used && n < maxNumbers; n++ {
				if d.fate[n].Load() == fateAcked {
					acked[id] = append(acked[id], n)
				}
			}
		}
		p.left, p.taken = nil, 0
	}
	letters, err := unreleased(filepath.Join(o.dir, "segment"))
	if err != nil {
		return err
	}
	serials := map[uint32]*pipeBook{}
	for _, p := range o.pipes {
		serials[p.serial] = p
	}
	for _, l := range letters {
		if p := serials[l.serial]; p != nil {
			p.left = append(p.left, l.number)
		} else {
			o.fail("life %d left a message of worker %d, who has no pipe", life, l.serial)
		}
	}
	for id, numbers := range acked {
		p := o.pipes[id]
		in := map[uint64]bool{}
		for _, n := range p.left {
			in[n] = true
		}
		settled := true
		for _, n := range numbers {
			switch l := p.seen[n]; {
			case p.closing != 0:
			case in[n]:
				settled = false
			case l == nil:
				o.fail("life %d: message %d of pipe %d was acknowledged, is not in the ring, and was never delivered", life, n, id)
			case !l.done:
				o.fail("life %d: message %d of pipe %d was released before its handler returned", life, n, id)
			}
			if settled {
				p.settled = n
			}
		}
	}
	return nil
}

// final judges the whole, when all workers and lives are over. killed are the
// workers that were killed.
func (o *oracle) final(killed map[uint32]bool) {
	for id, p := range o.pipes {
		d := o.books[p.serial]
		if d == nil {
			continue
		}
		stage := d.stage.Load()
		for n := uint64(1); n <= d.used.Load(); n++ {
			l, fate := p.seen[n], d.fate[n].Load()
			if l != nil && fate == fateFailed {
				o.fail("pipe %d: message %d failed, and was delivered", id, n)
			}
			if l == nil && fate == fateAcked && p.closing == 0 {
				o.fail("pipe %d: message %d is lost", id, n)
			}
			if fate == fateAcked && len(p.ends) > 0 && (l == nil || l.line > p.ends[0].line) {
				o.fail("pipe %d: its end came before message %d", id, n)
			}
		}
		if p.made != 0 && d.attached.Load() && len(p.ends) == 0 && p.closing == 0 {
			o.fail("pipe %d: no end was told", id)
		}
		for _, e := range p.ends {
			if !e.died && stage < stageStopping {
				o.fail("pipe %d: life %d told a clean end of a sender that was not stopped", id, e.life)
			}
			if e.died && stage == stageStopped && !killed[p.serial] {
				o.fail("pipe %d: life %d told the death of one that stopped", id, e.life)
			}
		}
	}
}

type letter struct {
	serial uint32
	number uint64
}

// unreleased reads the messages between head and the first free granule, while no
// consumer runs, but workers do: what is committed stays as it is, so it is read
// after its word; and the words from the last one on, since a worker commits one
// message before it claims the next.
func unreleased(path string) (letters []letter, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	word := func(off int64) (v uint64) {
		var b [8]byte
		if _, e := f.ReadAt(b[:], off); e != nil {
			err = e
		}
		return binary.NativeEndian.Uint64(b[:])
	}
	size, table, data, head := word(24)/64, int64(word(32)), int64(word(40)), word(8192)
	if err != nil || size == 0 {
		return nil, fmt.Errorf("superblock: %d granules: %w", size, err)
	}
	entry := func(pos uint64) int64 { return table + int64(pos%size)*16 }
	var records []uint64
	for pos := head; pos < head+size; {
		w := word(entry(pos))
		if tag := w >> 2 & (1<<35 - 1); tag != pos/size+1 || err != nil {
			break
		}
		records = append(records, pos)
		pos += w >> 45
	}
	for _, pos := range slices.Backward(records) {
		w := word(entry(pos))
		if committed := w&3 == 2; !committed || err != nil {
			continue
		}
		var batch []letter
		for at, granules := uint64(0), w>>45; at < granules; {
			info := word(entry(pos+at) + 8)
			length := info & (1<<25 - 1)
			if length == 1<<25-1 {
				break // nothing follows
			}
			b := make([]byte, length)
			if _, err := f.ReadAt(b, data+int64((pos+at)%size)*64); err != nil {
				return nil, err
			}
			if kind, _, _, _ := wire.UnpackMeta(info >> 25); kind == wire.Data {
				serial, number, _, err := openLetter(b)
				if err != nil {
					return nil, fmt.Errorf("position %d: %w", pos, err)
				}
				batch = append(batch, letter{serial, number})
			}
			at += max(1, (length+63)/64)
		}
		slices.Reverse(batch)
		letters = append(letters, batch...)
	}
	slices.Reverse(letters)
	return letters, err
}
