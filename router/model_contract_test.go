package router

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/shmrouter/shmrouter/sender"
)

// contract is what a router has to do, as far as one goroutine can tell that sends,
// routes and receives: one queue of everything committed, and for each pipe what it
// holds. It foretells every delivery and every answer.
type contract struct {
	running bool
	limit   int // messages that a receiver holds
	pipes   []*pipeModel
	queue   []*itemModel // committed, or claimed, and not routed
	flush   []*pipeModel // have got a handler while they held something
	log     []sight

	routed, discarded, panics uint64
	stalledBy                 *pipeModel
	unrouted                  uint64 // as of the stop
	delivered                 int    // messages given to handlers, in all runs
	late                      bool   // what handlers send is
}

type pipeModel struct {
	id      uint64
	number  int // in contract.pipes
	sender  sender.State
	seq     uint64
	claim   *itemModel // open
	closed  bool
	cancel  bool
	handler int // which; 0 for none
	held    []said
	end     endState
	settled bool // the monitor certainly knows that the sender has stopped
}

type itemModel struct {
	to   *pipeModel
	msg  said
	end  bool
	open bool // claimed, and in everybody's way
	late bool // sent by a handler of a RouteUntil, which need not route it
}

// said is a message: text is what the handler is to do, and ballast.
type said struct {
	text string
	seq  uint64
}

// sight is what a handler sees, or the answer that it gets.
type sight struct {
	pipe    uint64
	handler int
	said
	end    bool
	answer string
}

func (e sight) String() string {
	return fmt.Sprintf("pipe %d handler %d seq %d %.20q (%d) end=%v %s", e.pipe, e.handler, e.seq, e.text, len(e.text), e.end, e.answer)
}

// Orders to a handler are the message's first word, its argument the second.
func parseOrder(text string) (order string, arg int) {
	words := strings.SplitN(text, " ", 3)
	if len(words) > 1 {
		arg, _ = strconv.Atoi(words[1])
	}
	return words[0], arg
}

// step routes one thing.
func (c *contract) step() progress {
	if !c.running {
		return idle
	}
	for len(c.flush) > 0 {
		if p := c.flush[0]; !p.closed && p.handler != 0 && (len(p.held) > 0 || p.end == endHeld) {
			c.callHeld(p)
			return moved
		}
		c.flush = c.flush[1:]
	}
	if len(c.queue) == 0 || c.queue[0].open {
		return idle
	}
	it := c.queue[0]
	p := it.to
	pop := func() { c.queue = c.queue[1:] }
	switch {
	case p.closed:
		pop()
		if !it.end {
			c.discarded++
		}
	case p.handler != 0 && len(p.held) > 0:
		c.callHeld(p)
	case it.end:
		pop()
		if p.end = endHeld; p.handler != 0 {
			c.callHeld(p)
		}
	case p.handler != 0:
		pop()
		c.routed++
		c.call(p, it.msg)
	case len(p.held) >= c.limit:
		c.stalledBy = p
		return stuck
	default:
		pop()
		c.routed++
		p.held = append(p.held, it.msg)
	}
	return moved
}

func (c *contract) callHeld(p *pipeModel) {
	if len(p.held) == 0 {
		p.end = endTold
		c.log = append(c.log, sight{pipe: p.id, handler: p.handler, end: true})
		return
	}
	msg := p.held[0]
	c.take(p)
	c.call(p, msg)
}

// take removes a held message.
func (c *contract) take(p *pipeModel) {
	p.held = p.held[1:]
	if c.stalledBy == p {
		c.stalledBy = nil
	}
}

// call is a handler's call, and what it does in it.
func (c *contract) call(p *pipeModel, msg said) {
	c.delivered++
	e := sight{pipe: p.id, handler: p.handler, said: msg}
	c.log = append(c.log, e)
	order, arg := parseOrder(msg.text)
	at := len(c.log) - 1
	answer := func(err error) { c.log[at].answer = fmt.Sprint(err) }
	switch order {
	case "panic":
		c.panics++
	case "close":
		answer(c.close(c.other(arg)))
	case "send":
		if o := c.other(arg); o.sender == sender.StateOpen {
			c.commit(o, said{text: "plain from a handler"}).late = c.late
		}
	case "unhandle":
		p.handler = 0
	case "rehandle":
		c.handle(p, p.handler+1)
	case "until":
		answer(ErrInHandler)
	case "stop":
		c.stop()
	}
}

// other is the pipe that an order means.
func (c *contract) other(arg int) *pipeModel { return c.pipes[arg%len(c.pipes)] }

// commit puts a message into the queue.
func (c *contract) commit(p *pipeModel, msg said) *itemModel {
	p.seq++
	msg.seq = p.seq
	it := &itemModel{to: p, msg: msg}
	c.queue = append(c.queue, it)
	return it
}

func (c *contract) handle(p *pipeModel, handler int) {
	p.handler = handler
	if handler != 0 && !p.closed && (len(p.held) > 0 || p.end == endHeld) {
		c.flush = append(c.flush, p)
	}
}

func (c *contract) close(p *pipeModel) error {
	switch {
	case !c.running:
		return ErrNotRunning
	case p.closed:
		return ErrPipeClosed
	}
	p.closed, p.handler = true, 0
	c.discarded += uint64(len(p.held))
	p.held = nil
	if c.stalledBy == p {
		c.stalledBy = nil
	}
	return nil
}

// stop counts what was sent and cannot be routed any more: the monitor does not
// come past a claim that is open.
func (c *contract) stop() {
	c.running = false
	c.unrouted = 0
	for _, it := range c.queue {
		if it.open {
			break
		}
		if !it.end {
			c.unrouted++
		}
	}
	for _, p := range c.pipes {
		p.handler = 0
		if p.end == endNone {
			p.end = endNever
		}
	}
}

// recv is what Recv answers with a context that is done.
func (c *contract) recv(p *pipeModel, ended error) (said, error) {
	switch {
	case p.closed:
		return said{}, ErrPipeClosed
	case p.handler != 0:
		return said{}, ErrHandled
	case len(p.held) > 0:
		msg := p.held[0]
		c.take(p)
		return msg, nil
	case p.end == endNever:
		return said{}, ErrStopped
	case p.end == endNone:
		return said{}, ended
	}
	p.end = endTold
	return said{}, io.EOF
}

// awaited counts the pipes that something may still be told of.
func (c *contract) awaited() (n int) {
	for _, p := range c.pipes {
		if !p.closed && p.end != endTold {
			n++
		}
	}
	return n
}

// behindClaim reports whether a claim is open, so that the queue does not move.
func (c *contract) behindClaim() bool {
	for _, it := range c.queue {
		if it.open {
			return true
		}
	}
	return false
}

// drop takes an aborted claim out.
func (c *contract) drop(it *itemModel) {
	for i := range c.queue {
		if c.queue[i] == it {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			return
		}
	}
}
