package sweep

import (
	"errors"
	"io/fs"

	"github.com/shmrouter/shmrouter/ring"
	"github.com/shmrouter/shmrouter/shm"
)

// The operations of those who make or open a segment.
var making = []*operation{
	{
		name: "create", makes: makesPath,
		setup: func(*actor) error { return nil },
		run: func(a *actor) (outcome, error) {
			r, err := create(a.brief.Path, ring.Options{Capacity: ring.MinCapacity})
			a.ring = r
			if errors.Is(err, fs.ErrExist) {
				return refused, err
			}
			return ended(err)
		},
	},
	{
		name: "format", makes: makesMemory,
		setup: func(a *actor) (err error) {
			a.segment, err = shm.FromFile(a.file)
			return err
		},
		run: func(a *actor) (outcome, error) {
			r, err := format(a.segment, ring.Options{Capacity: ring.MinCapacity})
			a.ring = r
			return ended(err)
		},
	},
	{
		name: "open", makes: opensPath,
		setup: func(*actor) error { return nil },
		run: func(a *actor) (outcome, error) {
			r, err := openPath(a.brief.Path)
			a.ring = r
			return ended(err)
		},
	},
}
