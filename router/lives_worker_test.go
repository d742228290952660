package router

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/internal/ringtest"
	"github.com/shmrouter/shmrouter/sender"
	"github.com/shmrouter/shmrouter/shm"
)

// A letter is a message that tells its sender, its number, and when it was meant
// to be sent, and that can be told from a torn one.
func makeLetter(size int, serial uint32, number uint64) []byte {
	b := make([]byte, max(size, 40))
	binary.NativeEndian.PutUint64(b, uint64(shm.Now()))
	ringtest.Fill(b[8:], serial, number)
	return b
}

func openLetter(b []byte) (serial uint32, number uint64, at int64, err error) {
	if len(b) < 40 {
		return 0, 0, 0, errors.New("too short")
	}
	serial, number, err = ringtest.Verify(b[8:])
	return serial, number, int64(binary.NativeEndian.Uint64(b)), err
}

func diaryPath(dir string, serial uint32) string {
	return filepath.Join(dir, fmt.Sprint("diary", serial))
}

// workerArg is a worker's role's; the token is empty for one that was launched. What it does is chance, by
// seed and serial.
func workerArg(dir string, serial uint32, token string, seed uint64) string {
	b, _ := json.Marshal(workerPlan{dir, serial, token, seed})
	return string(b)
}

type workerPlan struct {
	Dir    string
	Serial uint32
	Token  string
	Seed   uint64
}

// livesWorker sends until it is told to stop, its pipe is closed, or it is killed.
func livesWorker(arg string) error {
	var p workerPlan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return err
	}
	d, _, err := openBook[diary](diaryPath(p.Dir, p.Serial))
	if err != nil {
		return err
	}
	d.pid.Store(int64(os.Getpid()))
	return d.work(p.Serial, p.Seed, nil, func() (*sender.Sender, error) {
		if p.Token != "" {
			return sender.Open(p.Token)
		}
		return sender.FromEnv()
	})
}

// work is a worker's life. s is of the router's own process, which may stop before
// it is started; others open theirs.
func (d *diary) work(serial uint32, seed uint64, s *sender.Sender, open func() (*sender.Sender, error)) (err error) {
	defer func() {
		if err != nil {
			d.stage.Store(stageFailed)
			fmt.Fprintf(os.Stderr, "worker %d: %v\n", serial, err)
		}
	}()
	d.stage.Store(stageAttaching)
	if open != nil {
		s, err = open()
	}
	if err == nil {
		err = s.Start()
	}
	if errors.Is(err, sender.ErrPipeClosed) || errors.Is(err, sender.ErrRouterGone) && open == nil {
		d.stage.Store(stageStopped)
		return nil
	}
	if err != nil {
		return err
	}
	d.attached.Store(true)
	d.stage.Store(stageSending)
	random := rand.New(rand.NewPCG(seed, uint64(serial)))
	ctx := s.Context()
	for d.order.Load() == 0 && d.used.Load() < maxNumbers-10 && !errors.Is(context.Cause(ctx), sender.ErrPipeClosed) {
		if err := d.sendOne(s, serial, random); err != nil {
			return err
		}
		if random.IntN(16) == 0 {
			time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
		}
	}
	d.stage.Store(stageStopping)
	if err := s.Stop(); err != nil {
		return err
	}
	d.stage.Store(stageStopped)
	return nil
}

// sendOne sends a message, or a batch of them, one way or another.
func (d *diary) sendOne(s *sender.Sender, serial uint32, random *rand.Rand) error {
	letters, lengths := make([][]byte, 1), 7
	way := random.IntN(16)
	if way == 0 {
		letters, lengths = make([][]byte, 2+random.IntN(4)), 6 // the longest batch fits a frame
	}
	first := d.used.Load() + 1
	for i := range letters {
		number := first + uint64(i)
		d.used.Store(number)
		d.fate[number].Store(fateIntent)
		letters[i] = makeLetter(random.IntN(1<<(5+random.IntN(lengths))), serial, number)
	}
	fate := uint32(fateAcked)
	var err error
	switch way {
	case 0:
		err = s.SendBatch(background, letters)
	case 1:
		err = s.TrySend(letters[0])
	case 2, 3:
		var c sender.Claim
		if c, err = s.Claim(background, len(letters[0])); err == nil {
			copy(c.Bytes(), letters[0])
			if random.IntN(3) == 0 {
				c.Abort()
				fate = fateFailed
			} else {
				err = c.Commit()
			}
		}
	case 4:
		ctx, cancel := context.WithTimeout(background, time.Duration(random.IntN(2000))*time.Microsecond)
		err = s.Send(ctx, letters[0])
		cancel()
	default:
		err = s.Send(background, letters[0])
	}
	if err != nil {
		fate = fateFailed
	}
	for i := range letters {
		d.fate[first+uint64(i)].Store(fate)
	}
	if err == nil || errors.Is(err, sender.ErrFull) || errors.Is(err, sender.ErrRouterGone) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
