package tracer

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// arm sets a breakpoint. The victim is stopped, here and in the following.
func (v *Victim) arm(at uint64) error {
	if v.armed[at] {
		return nil
	}
	v.armed[at] = true
	return v.writeText(v.PID, at)
}

// disarm takes a breakpoint away.
func (v *Victim) disarm(at uint64) error {
	if !v.armed[at] {
		return nil
	}
	delete(v.armed, at)
	return v.writeText(v.PID, at)
}

// lift takes the breakpoints out of the code, by way of a thread that is stopped, but those that only
// the main thread comes to: so the others may run.
func (v *Victim) lift(tid int) error {
	for at := range v.armed {
		if pc := v.here(at); pc == v.t.begin || pc == v.t.end {
			continue
		}
		delete(v.armed, at)
		v.lifted = append(v.lifted, at)
		if err := v.writeText(tid, at); err != nil {
			return err
		}
	}
	return nil
}

// lower sets again what was lifted.
func (v *Victim) lower() error {
	lifted := v.lifted
	v.lifted = nil
	for _, at := range lifted {
		if err := v.arm(at); err != nil {
			return err
		}
	}
	return nil
}

const wordSize = 8

// writeText brings the word of code around an address to what it is with the breakpoints in it, by way of
// a thread that is stopped.
func (v *Victim) writeText(tid int, at uint64) error {
	at &^= wordSize - 1
	word, ok := v.t.text[v.here(at)]
	if !ok {
		var err error
		if word, err = v.peek(at); err != nil {
			return err
		}
		v.t.text[v.here(at)] = word
	}
	const int3 = 0xcc
	var b [wordSize]byte
	binary.LittleEndian.PutUint64(b[:], word)
	for i := range b {
		if v.armed[at+uint64(i)] {
			b[i] = int3
		}
	}
	if _, err := unix.PtracePokeText(tid, uintptr(at), b[:]); err != nil {
		return v.failed("PTRACE_POKETEXT", err)
	}
	return nil
}

func (v *Victim) peek(at uint64) (uint64, error) {
	var b [wordSize]byte
	if _, err := unix.PtracePeekText(v.PID, uintptr(at), b[:]); err != nil {
		return 0, v.failed("PTRACE_PEEKTEXT", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (v *Victim) registers() (r unix.PtraceRegs, err error) {
	if err = unix.PtraceGetRegs(v.PID, &r); err != nil {
		err = v.failed("PTRACE_GETREGSET", err)
	}
	return r, err
}

func (v *Victim) setRegisters(r *unix.PtraceRegs) error {
	if err := unix.PtraceSetRegs(v.PID, r); err != nil {
		return v.failed("PTRACE_SETREGSET", err)
	}
	return nil
}

// passMarker returns from a marker, at whose first instruction the victim is, with a result.
func (v *Victim) passMarker(result uint64) error {
	r, err := v.registers()
	if err != nil {
		return err
	}
	if r.Rip, err = v.peek(r.Rsp); err != nil {
		return err
	}
	r.Rsp += wordSize
	r.Rax = result
	return v.setRegisters(&r)
}
