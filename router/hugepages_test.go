package router

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestHugePages(t *testing.T) {
	guard(t)
	reserved := 0
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if m := regexp.MustCompile(`HugePages_Free: +(\d+)[^$]*Hugepagesize: +2048 kB`).FindSubmatch(text); m != nil {
			reserved, _ = strconv.Atoi(string(m[1]))
		}
	}
	r := begin(t, WithHugePages(), WithCapacity(64<<10), WithMaxPipes(64))
	want := os.Getpagesize()
	if reserved >= 8 { // and nobody else is likely to take so many meanwhile
		want = 2 << 20
	}
	if got := r.Stats().Ring.PageSize; got != want {
		t.Errorf("pages of %d, want %d where %d huge ones were free", got, want, reserved)
	}
	s, rcv, err := r.Pipe()
	must(t, err)
	got := make(chan string, 1)
	rcv.Handle(func(m Message) { got <- string(m.Data) }, nil)
	must(t, s.Start())
	must(t, s.Send(t.Context(), []byte("by huge pages or small ones")))
	if text := within(t, "message", got); text != "by huge pages or small ones" {
		t.Errorf("got %q", text)
	}
	must(t, s.Stop())
}
