package main

import (
	"bufio"
	"context"
	"image"
	"image/draw"
	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/shmrouter/shmrouter/sender"
)

const side = 128 // of a thumbnail at most, in pixels: 64 KiB, which fits a frame

// work is the worker: a line with a quoted name for each job, a message for each result.
func work(ctx context.Context, s *sender.Sender) error {
	jobs := bufio.NewScanner(os.Stdin)
	for jobs.Scan() {
		file, err := strconv.Unquote(jobs.Text())
		if err != nil {
			return err
		}
		if err := thumbnail(ctx, s, file); err != nil {
			return err
		}
	}
	return jobs.Err()
}

// thumbnail sends the result for one file. An unreadable picture is a result; an error is one of sending.
func thumbnail(ctx context.Context, s *sender.Sender, file string) error {
	src, err := decode(file)
	if err != nil {
		return s.Send(ctx, append(make([]byte, header), err.Error()...))
	}
	sabotage(file, "hang")
	// Everybody waits behind the open claim of a process that lives, so what may take long, or hang, comes before it.
	w, h := fit(src.Rect.Dx(), src.Rect.Dy())
	c, err := s.Claim(ctx, header+4*w*h)
	if err != nil {
		return err
	}
	defer c.Abort()
	b := c.Bytes()
	putHeader(b, w, h)
	sabotage(file, "panic", "kill")
	scale(&image.RGBA{Pix: b[header:], Stride: 4 * w, Rect: image.Rect(0, 0, w, h)}, src)
	return c.Commit()
}

// sabotage does to this process what damaged pictures do to decoders, and worse, if the file's name says so.
func sabotage(file string, here ...string) {
	kind, _, _ := strings.Cut(filepath.Base(file), "-")
	if !slices.Contains(here, kind) {
		return
	}
	switch kind {
	case "panic":
		panic("damaged picture")
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	select {}
}

func decode(file string) (*image.RGBA, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, _, err := image.Decode(f)
	if err != nil {
		return nil, err
	}
	dst := image.NewRGBA(image.Rect(0, 0, src.Bounds().Dx(), src.Bounds().Dy()))
	draw.Draw(dst, dst.Rect, src, src.Bounds().Min, draw.Src)
	return dst, nil
}

// fit returns the size of the thumbnail of a picture.
func fit(w, h int) (int, int) {
	long := max(w, h)
	if long <= side {
		return w, h
	}
	return max(1, w*side/long), max(1, h*side/long)
}

// scale makes each pixel of dst the mean of those of src that it stands for.
func scale(dst, src *image.RGBA) {
	w, h, sw, sh := dst.Rect.Dx(), dst.Rect.Dy(), src.Rect.Dx(), src.Rect.Dy()
	for y := range h {
		for x := range w {
			var sum [4]int
			n := 0
			for sy := y * sh / h; sy < (y+1)*sh/h; sy++ {
				for sx := x * sw / w; sx < (x+1)*sw/w; sx++ {
					n++
					for i, v := range src.Pix[src.PixOffset(sx, sy):][:4] {
						sum[i] += int(v)
					}
				}
			}
			for i := range sum {
				dst.Pix[dst.PixOffset(x, y)+i] = uint8(sum[i] / n)
			}
		}
	}
}
