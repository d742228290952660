package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Jobs that crash, hang, or are no pictures fail, each with its reason, and every other one is done, to the pixel.
func TestCrashesCostTheirJobs(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(t.TempDir(), "made", "by the program")
	program := filepath.Join(dir, "thumbnails")
	b, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", b)

	bad := map[string]string{
		"panic-1.png": "exit status 2",
		"kill-1.png":  "signal: killed",
		"hang-1.png":  "not done within 3s",
		"text.png":    "image: unknown format",
		"none.png":    "no such file",
	}
	var files []string
	for i := range 24 {
		name := fmt.Sprintf("good-%d.png", i)
		picture(t, filepath.Join(dir, name), 40+13*i, 350-13*i)
		files = append(files, name)
		for name := range bad {
			if i == 3 {
				picture(t, filepath.Join(dir, name), 300, 200)
				files = append(files, name)
			}
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text.png"), []byte("no picture"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "none.png")))

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for one that hangs
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"-o", out, "-limit", "3s"}, files...)...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	require.ErrorContains(t, err, "exit status 1", "%s%s", &stdout, &stderr)

	said := map[string]string{}
	for line := range strings.Lines(stdout.String()) {
		if fields := strings.Fields(line); fields[0] == "ok" || fields[0] == "failed" {
			name := strings.TrimSuffix(fields[1], ":")
			require.NotContains(t, said, name, "told twice")
			said[name] = line
		}
	}
	require.Len(t, said, len(files), "%s", &stdout)
	for _, name := range files {
		thumb := filepath.Join(out, name+".thumb.png")
		if why, ok := bad[name]; ok {
			require.Contains(t, said[name], "failed "+name)
			require.Contains(t, said[name], why)
			require.NoFileExists(t, thumb)
			continue
		}
		require.Contains(t, said[name], "ok ")
		got, err := decode(thumb)
		require.NoError(t, err)
		src, err := decode(filepath.Join(dir, name))
		require.NoError(t, err)
		w, h := fit(src.Rect.Dx(), src.Rect.Dy())
		want := image.NewRGBA(image.Rect(0, 0, w, h))
		scale(want, src)
		require.Equal(t, want.Rect, got.Rect, name)
		require.Equal(t, want.Pix, got.Pix, name)
	}
	require.Contains(t, stdout.String(), "24 of 29 pictures, workers restarted 3 times")
	require.Contains(t, stderr.String(), "panic: damaged picture") // the worker's panic, in the log
}

func picture(t *testing.T, file string, w, h int) {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, png.Encode(f, img))
	require.NoError(t, f.Close())
}
