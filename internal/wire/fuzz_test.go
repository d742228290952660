package wire

import (
	"errors"
	"runtime/debug"
	"testing"

	"github.com/shmrouter/shmrouter/internal/ringtest"
)

// Whatever a peer has written into the directory, its index and state stay
// inside, and every answer is one that the documentation names. The segment
// stands between walls.
func FuzzDirectory(f *testing.F) {
	const size = 2 * 4096 // 128 entries
	f.Add([]byte{})
	f.Add([]byte{0, 48, 0, 0, 0, 1, 0, 0, 0, 0, 5, 3, 7})
	f.Add([]byte{1, 0, 255, 7, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0})
	seg := ringtest.Walled(f, size)
	fresh, err := Create(seg, 0, size, Config{Entries: 128, MaxMessage: 1000})
	if err != nil {
		f.Fatal(err)
	}
	fresh.SetState(Running)
	for i := range uint32(8) {
		fresh.Publish(i, uint64(i+1))
		if i%2 == 0 {
			fresh.Attach(i, uint64(i+1), int(i), i+100)
		}
	}
	image := append([]byte{}, seg.Bytes()...)
	f.Fuzz(func(t *testing.T, in []byte) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		next := func() (v uint64) {
			for i := 0; i < 2 && len(in) > 0; i++ {
				v, in = v<<8|uint64(in[0]), in[1:]
			}
			return v
		}
		wide := func() uint64 { return next()<<48 | next()<<32 | next()<<16 | next() }
		copy(seg.Bytes(), image)
		area := int64(size)
		if n := next(); n&0xf00 != 0 {
			area = int64(n) % (size + 1)
		}
		for range next() % 8 {
			at := int64(next())
			if at&1 == 0 {
				at %= 64 // the control words
			}
			seg.Word64(at % size &^ 7).Store(wide())
		}
		d, err := Open(seg, 0, area)
		if err != nil {
			if !errors.Is(err, ErrNoDirectory) && !errors.Is(err, ErrDamaged) || d != nil {
				t.Fatalf("undocumented: %v, %v", d, err)
			}
			return
		}
		if n := int64(d.Len()); n < 1 || offTable+n*entrySize > area || n&(n-1) != 0 {
			t.Fatalf("%d entries in %d bytes", n, area)
		}
		for len(in) > 0 {
			useDirectory(t, d, uint32(next()), uint32(next())*0x10001, next()%32*0x0842108421, wide)
		}
	})
}

func useDirectory(t *testing.T, d *Directory, op, index uint32, id uint64, wide func() uint64) {
	switch op % 9 {
	case 0:
		e := d.Load(index)
		if e.Slot() < 0 || e.Slot() > 255 || e.ID() > MaxID || e.State() > 7 {
			t.Fatalf("%+v", e)
		}
		for _, slot := range []int{e.Slot(), 3} {
			if e.HeldBy(slot, e.Instance) && (e.Slot() != slot || e.State() != PipeAttached && e.State() != PipeEnded) {
				t.Fatalf("%+v held by %d", e, slot)
			}
		}
		_ = e.State().String()
	case 1:
		was := d.Word(index)
		if ok := d.Publish(index, id); ok != (was.State() == PipeFree) || ok && d.Load(index) != (Entry{Word: makeWord(id, 0, 0, PipeOpen)}) {
			t.Fatalf("published %d over %#x: %v, now %+v", id, was, ok, d.Load(index))
		}
	case 2:
		was := d.Word(index)
		err := d.Attach(index, id, 7, 9)
		if (err == nil) != (was == makeWord(id, 0, 0, PipeOpen)) || err != nil && !errors.Is(err, ErrTaken) && !errors.Is(err, ErrGone) {
			t.Fatalf("attached to %#x: %v", was, err)
		}
		if err == nil && !d.Load(index).HeldBy(7, 9) {
			t.Fatalf("attached, and then %+v", d.Load(index))
		}
	case 3:
		was := d.Word(index)
		if d.End(index, id, 7, 9) != (was == makeWord(id, 7, 9, PipeAttached)) {
			t.Fatalf("ended %#x", was)
		}
	case 4:
		if !d.Free(index, d.Word(index)) || d.Word(index).State() != PipeFree {
			t.Fatal("not freed")
		}
	case 5:
		d.Flag(index, Flags(id))
		d.SetReleased(index, id)
	case 6:
		if id, err := d.TakeID(); err != nil && !errors.Is(err, ErrSpent) || err == nil && (id == 0 || id > MaxID) {
			t.Fatalf("id %d, %v", id, err)
		}
		d.NextID()
	case 7:
		d.Serves(d.Epoch())
		_ = d.State().String()
		d.RaiseLife()
		d.RaiseEnds()
		d.Notify()
	case 8: // a peer goes on writing
		d.seg.Word64(int64(index) % (d.seg.Size() / 8) * 8).Store(wide())
	}
}

// What a frame says of itself goes there and back; bits that mean nothing are noticed.
func FuzzMeta(f *testing.F) {
	f.Add(Meta(Data, 7, 1<<16+9), uint64(1<<20))
	f.Add(Meta(End, MaxPipes-1, 0), uint64(0))
	f.Add(uint64(1<<39), uint64(1))
	f.Fuzz(func(t *testing.T, meta, last uint64) {
		kind, index, seq, ok := UnpackMeta(meta)
		if index >= MaxPipes || ok != (meta == Meta(kind, index, uint64(seq)) && kind >= Data && kind <= End) {
			t.Fatalf("%#x: %v %d %d %v", meta, kind, index, seq, ok)
		}
		if n := ExtendSeq(last, seq); uint16(n) != seq || n-last > 1<<16-1 {
			t.Fatalf("%d after %d is %d", seq, last, n)
		}
	})
}
