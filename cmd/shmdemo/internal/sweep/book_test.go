package sweep

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// step is what a book is told.
type step func(b *book, d *diary)

func delivered(sender uint64, numbers ...uint64) step {
	return func(b *book, _ *diary) {
		for _, n := range numbers {
			b.deliver(message(sender, n, frameSize))
		}
	}
}

func noted(intended, acked uint64, result outcome) step {
	return func(_ *book, d *diary) {
		d.intended.Store(intended)
		d.acked.Store(acked)
		d.conclude(result, nil)
	}
}

// died is a consumer's death that was given messages of the neighbour, and had released some.
func died(released uint64, numbers ...uint64) step {
	return func(b *book, d *diary) {
		for _, n := range numbers {
			d.take(byNeighbour, n)
		}
		d.released.Store(released)
		b.consumerDied(d, 0)
	}
}

// The judge finds what is wrong, and nothing else.
func TestBook(t *testing.T) {
	none, atomic := &operation{none: true}, &operation{atomic: true}
	for _, c := range []struct {
		name  string
		op    *operation
		steps []step
		want  string // part of the complaint
	}{
		{"all is well", nil, []step{noted(2, 2, success), delivered(bySubject, 1, 2)}, ""},
		{"not acknowledged, delivered", nil, []step{noted(2, 1, pending), delivered(bySubject, 1, 2)}, ""},
		{"not acknowledged, lost", nil, []step{noted(2, 1, pending), delivered(bySubject, 1)}, ""},
		{"acknowledged, lost", nil, []step{noted(2, 2, pending), delivered(bySubject, 1)}, "2 messages of the victim were acknowledged, and 1 delivered"},
		{"never intended", nil, []step{noted(1, 1, success), delivered(bySubject, 1, 2)}, "1 messages of the victim were intended, and 2 delivered"},
		{"twice", nil, []step{noted(2, 2, success), delivered(bySubject, 1, 2, 2)}, "delivered twice"},
		{"out of order", nil, []step{noted(3, 3, success), delivered(bySubject, 1, 3)}, "lost, or overtaken"},
		{"given up, delivered", none, []step{noted(1, 0, success), delivered(bySubject, 1)}, "gave its message up"},
		{"refused, delivered", nil, []step{noted(1, 0, refused), delivered(bySubject, 1)}, "its message was delivered"},
		{"failed", nil, []step{noted(1, 0, failure)}, "the call of the victim failed"},
		{"half a batch", atomic, []step{noted(3, 0, pending), delivered(bySubject, 1, 2)}, "2 of the 3 messages of one batch"},
		{"no batch", atomic, []step{noted(3, 0, pending)}, ""},
		{"torn", nil, []step{func(b *book, _ *diary) {
			m := message(bySubject, 1, frameSize)
			m[100]++
			b.deliver(m)
		}}, "torn"},
		{"cut", nil, []step{func(b *book, _ *diary) { b.deliver(message(bySubject, 1, frameSize)[:64]) }}, "torn"},
		{"again after a death", nil, []step{died(1, 1, 2, 3), delivered(byNeighbour, 2, 3, 4)}, ""},
		{"on after a death", nil, []step{died(1, 1, 2, 3), delivered(byNeighbour, 4)}, ""},
		{"released, and again", nil, []step{died(2, 1, 2, 3), delivered(byNeighbour, 2, 3)}, "delivered twice"},
		{"again, and not in order", nil, []step{died(0, 1, 2, 3), delivered(byNeighbour, 1, 3)}, "lost, or overtaken"},
		{"lost by a death", nil, []step{died(0, 1, 2), delivered(byNeighbour, 4)}, "lost, or overtaken"},
		{"torn for who died", nil, []step{func(b *book, d *diary) {
			d.take(0, 0)
			b.consumerDied(d, 0)
		}}, "no message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := newDiary()
			require.NoError(t, err)
			defer d.close()
			b := &book{}
			for _, s := range c.steps {
				s(b, d)
			}
			if c.op == nil {
				c.op = &operation{}
			}
			b.judgeVictim(d, bySubject, c.op)
			if c.want == "" {
				require.Empty(t, b.complaints)
				return
			}
			require.NotEmpty(t, b.complaints)
			require.Contains(t, b.complaints[0], c.want)
		})
	}
}
