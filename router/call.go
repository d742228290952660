package router

import (
	"reflect"
	"runtime"
	"runtime/debug"
)

// handlerCall is one call of a handler: of onMessage, or of onEnd.
type handlerCall struct {
	rcv       *Receiver
	onMessage func(Message)
	msg       Message
	held      *releaseRef
	onEnd     func(error)
	end       error
}

// callMany routes messages in front that need nothing but their handler, limit at most, and returns how many. A
// panic ends it; the next call goes on behind the message.
//
//go:noinline
func (n *run) callMany(limit int) (done int) {
	var rcv *Receiver
	var held *releaseRef
	defer func() {
		if v := recover(); v != nil {
			n.panicked(rcv, v)
		}
		held.done()
	}()
	for done < limit && n.cur != nil && n.flushing.Load() == 0 && !n.until.Load() && !n.isStopped() {
		it := &n.cur.items[n.next]
		if it.mark != nil {
			break
		}
		rcv = it.to
		onMessage := rcv.direct.Load()
		if onMessage == nil {
			break
		}
		msg := it.msg
		held = n.cur.held
		n.advance()
		n.count.routed.add(1)
		done++
		(*onMessage)(msg)
		if held != nil {
			held.done()
			held = nil
		}
	}
	return done
}

func (n *run) panicked(rcv *Receiver, v any) {
	n.count.panics.Add(1)
	n.log.Error("handler panicked", "pipe", rcv.id, "panic", v, "stack", string(debug.Stack()))
}

// invoke calls a handler and outlives its panic. All handlers of all routers are
// called by this function or callMany, which is how inHandler finds them.
//
//go:noinline
func (n *run) invoke(c *handlerCall) {
	defer func() {
		if v := recover(); v != nil {
			n.panicked(c.rcv, v)
		}
		c.held.done()
	}()
	if c.onMessage != nil {
		c.onMessage(c.msg)
	} else if c.onEnd != nil {
		c.onEnd(c.end)
	}
}

// inHandler reports whether the caller runs within a handler of this router: the
// turn is taken, and the caller's own stack has invoke on it. A handler of
// another router, running while this one's loop happens to be in a turn, is
// taken for one of this router's: the answer errs on the side of no deadlock.
func (n *run) inHandler() bool {
	if len(n.turn) == 0 {
		return false
	}
	pcs := make([]uintptr, 64)
	for {
		depth := runtime.Callers(2, pcs)
		if depth < len(pcs) {
			pcs = pcs[:depth]
			break
		}
		pcs = make([]uintptr, 2*len(pcs))
	}
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		if f.Func != nil && (f.Func.Entry() == invokeEntry || f.Func.Entry() == callManyEntry) {
			return true
		}
		if !more {
			return false
		}
	}
}

var (
	invokeEntry   = reflect.ValueOf((*run).invoke).Pointer()
	callManyEntry = reflect.ValueOf((*run).callMany).Pointer()
)
