package ring

import "context"

// A batch is one record with several messages: one claim and one commit, so
// all of them or none arrive. Each message starts on a granule and has its
// length and meta in the info half of that granule's entry; the words of the
// inner entries stay as they are.

// TryBatch sends copies of the messages as one record, which they must not
// make larger than MaxFrame (counted in granules, at least one each). meta
// gives the meta value of message i, the same each time it is asked; nil means
// 0 for all. No messages: nothing
// is sent, and the error is nil. Errors are those of TrySend.
func (p *Producer) TryBatch(msgs [][]byte, meta func(i int) uint64) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := p.checkBatch(msgs, meta); err != nil {
		return err
	}
	return p.sending(func() error { return p.sendBatch(msgs, meta) })
}

// SendBatch is TryBatch that waits for room like Send. Errors are those of Send.
func (p *Producer) SendBatch(ctx context.Context, msgs [][]byte, meta func(i int) uint64) error {
	err := p.TryBatch(msgs, meta)
	if err != ErrFull {
		return err
	}
	return p.whenRoom(ctx, batchGranules(msgs), func() error { return p.TryBatch(msgs, meta) })
}

func batchGranules(msgs [][]byte) (g uint64) {
	for _, m := range msgs {
		g += granulesFor(len(m))
	}
	return g
}

func (p *Producer) checkBatch(msgs [][]byte, meta func(int) uint64) error {
	var g uint64
	for i, m := range msgs {
		if err := p.check(len(m), metaOf(meta, i)); err != nil {
			return err
		}
		if g += granulesFor(len(m)); g > p.limit {
			return ErrTooLarge
		}
	}
	return nil
}

func metaOf(meta func(int) uint64, i int) uint64 {
	if meta == nil {
		return 0
	}
	return meta(i)
}

func (p *Producer) sendBatch(msgs [][]byte, meta func(int) uint64) error {
	g := batchGranules(msgs)
	pos, w, err := p.claim(g)
	if err != nil {
		return err
	}
	p.filling = w
	defer func() { // meta may panic
		if p.filling != 0 {
			p.giveBack()
		}
	}()
	var total uint64
	at := pos
	for i, m := range msgs {
		copy(p.view.bytes(at, len(m)), m)
		storeRelaxed(&p.entry(at).info, makeInfo(len(m), metaOf(meta, i)&metaMask))
		at += granulesFor(len(m))
		total += uint64(len(m))
	}
	p.filling = 0
	if err := p.commit(pos, w); err != nil {
		return err
	}
	p.count(1, total)
	return nil
}
