// Thumbnails is a pool of image workers that may crash: what kills a worker costs that one job, and nothing else.
// The main process hands out files by each worker's standard input, one at a time, so it knows what a dead worker
// was doing. The pixels come back through shared memory: a worker scales the picture in the ring itself. Workers that
// die are started again, and one that takes too long is killed. Run it by
//
//	go run ./examples/thumbnails -o DIR FILE.png FILE.jpg ...
//
// To see workers crash, name a picture panic-…, kill-… or hang-… (see sabotage).
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/png"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/shmrouter/shmrouter/router"
	"github.com/shmrouter/shmrouter/sender"
)

func main() {
	if sender.Launched() {
		check(sender.Main(work))
		return
	}
	out := flag.String("o", ".", "directory for the thumbnails, made if it is not there")
	workers := flag.Int("workers", 2, "processes")
	limit := flag.Duration("limit", 5*time.Second, "time for one picture")
	flag.Parse()
	check(os.MkdirAll(*out, 0o777))

	rt, err := router.New(router.WithLogger(slog.Default())) // also of panics
	check(err)
	check(rt.Start())
	p := newPool(rt, *workers, *limit, flag.Args())
	failed := 0
	for r := range p.results {
		if r.err == nil {
			r.err = save(filepath.Join(*out, filepath.Base(r.file)+".thumb.png"), r.data)
		}
		if r.err != nil {
			failed++
			fmt.Printf("failed %s: %v\n", r.file, r.err)
		} else {
			fmt.Printf("ok     %s\n", r.file)
		}
	}
	check(rt.Stop())
	fmt.Printf("%d of %d pictures, workers restarted %d times\n", flag.NArg()-failed, flag.NArg(), p.restarts())
	if failed > 0 {
		os.Exit(1)
	}
}

// save writes what a worker sent: width, height, pixels; or no width, no height, and why there is no thumbnail.
func save(name string, data []byte) error {
	w, h, rest, err := parse(data)
	switch {
	case err != nil:
		return err
	case w == 0:
		return errors.New(string(rest))
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = png.Encode(f, &image.RGBA{Pix: rest, Stride: 4 * w, Rect: image.Rect(0, 0, w, h)})
	return errors.Join(err, f.Close())
}

const header = 8 // bytes in front of the pixels

func putHeader(b []byte, w, h int) {
	binary.LittleEndian.PutUint32(b, uint32(w))
	binary.LittleEndian.PutUint32(b[4:], uint32(h))
}

func parse(data []byte) (w, h int, rest []byte, err error) {
	if len(data) < header {
		return 0, 0, nil, errors.New("a message without a header")
	}
	w, h, rest = int(binary.LittleEndian.Uint32(data)), int(binary.LittleEndian.Uint32(data[4:])), data[header:]
	if w > 0 && (w > side || h > side || len(rest) != 4*w*h) {
		return 0, 0, nil, fmt.Errorf("%d bytes are no picture of %d by %d", len(rest), w, h)
	}
	return w, h, rest, nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
