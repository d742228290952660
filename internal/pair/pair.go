// Package pair lets the router make the senders of its pipes: their constructor is nobody else's.
package pair

import (
	"github.com/shmrouter/shmrouter/internal/wire"
	"github.com/shmrouter/shmrouter/ring"
)

// NewSender makes the *sender.Sender of a pipe in the router's own process, in its initial state. The token names the
// pipe; where it says how to find the segment is of no importance here, except a path, for Token. It takes nothing of
// the ring until Start, which fails with sender.ErrRouterGone if that is closed by then; from Start to Stop the segment
// stays mapped. Package sender sets it when it is initialized.
var NewSender func(*ring.Ring, wire.Token) any
