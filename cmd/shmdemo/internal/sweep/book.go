package sweep

import "fmt"

// book judges one try: it is told what is delivered, in order, and what the senders say they sent.
type book struct {
	from       [senders]tally
	complaints []string
}

// tally is what was delivered of one sender.
type tally struct {
	last     uint64 // its messages up to here were delivered
	again    bool   // the consumer has died: the next may be one that was delivered before
	released uint64 // but not one of these
}

// complain notes something that must not happen.
func (b *book) complain(format string, args ...any) {
	if len(b.complaints) < 8 {
		b.complaints = append(b.complaints, fmt.Sprintf(format, args...))
	}
}

// deliver takes a message as a handler got it.
func (b *book) deliver(data []byte) {
	sender, n, err := parse(data)
	if err != nil {
		b.complain("delivered: %v", err)
		return
	}
	b.count(sender, n)
}

// count takes message n of a sender, which was whole.
func (b *book) count(sender, n uint64) {
	if sender == 0 || sender >= senders {
		b.complain("a consumer that has died was given something that is no message")
		return
	}
	t := &b.from[sender]
	if t.again {
		t.again = false
		if n > t.released && n <= t.last { // and from there on in order again
			t.last = n
			return
		}
	}
	switch {
	case n == t.last+1:
		t.last = n
	case n <= t.last:
		b.complain("message %d of %s was delivered twice, or late: %d had been before", n, senderNames[sender], t.last)
	default:
		b.complain("message %d of %s was delivered after %d: one was lost, or overtaken", n, senderNames[sender], t.last)
		t.last = n
	}
}

// consumerDied takes over what a consumer that is gone noted down, from entry from on, and returns where it
// stopped.
func (b *book) consumerDied(d *diary, from uint64) uint64 {
	for from < min(d.taken.Load(), entries) {
		e := d.entries[from].Load()
		b.count(e>>32, e&(1<<32-1))
		if from++; from == d.released.Load() {
			b.fixReleased()
		}
	}
	for i := range b.from {
		b.from[i].again = true
	}
	return from
}

// fixReleased notes that all that was delivered up to now is released, too.
func (b *book) fixReleased() {
	for i := range b.from {
		b.from[i].released = b.from[i].last
	}
}

// judgeVictim compares what arrived of the victim with its diary, when nothing more can arrive.
func (b *book) judgeVictim(d *diary, sender uint64, s *operation) {
	got, acked, intended := b.from[sender].last, d.acked.Load(), d.intended.Load()
	name := senderNames[sender]
	if got < acked {
		b.complain("%d messages of %s were acknowledged, and %d delivered", acked, name, got)
	}
	if got > intended {
		b.complain("%d messages of %s were intended, and %d delivered", intended, name, got)
	}
	if s.none && got > acked {
		b.complain("%s gave its message up, and it was delivered", name)
	}
	if s.atomic && got != acked && got != intended {
		b.complain("%d of the %d messages of one batch of %s were delivered", got-acked, intended-acked, name)
	}
	switch d.result.Load() {
	case refused:
		if got != acked {
			b.complain("the send of %s failed (%s), and its message was delivered", name, d.text())
		}
	case failure:
		b.complain("the call of %s failed: %s", name, d.text())
	}
}

// judgeWhole is for a sender that has lived: everything was delivered.
func (b *book) judgeWhole(sender, sent uint64) {
	if got := b.from[sender].last; got != sent {
		b.complain("%s sent %d messages, and %d were delivered", senderNames[sender], sent, got)
	}
}
