package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

var identity = [16]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}

func TestTokenText(t *testing.T) {
	for _, c := range []struct {
		token Token
		text  string
	}{
		{Token{FD: 3, Identity: identity, Epoch: 0x1f2e, ID: 42, Index: 7}, "shm1:f3:00112233445566778899aabbccddeeff:1f2e:42:7"},
		{Token{Path: "/dev/shm/a", Identity: identity, Epoch: 1, ID: MaxID, Index: MaxPipes - 1}, "shm1:p%2Fdev%2Fshm%2Fa:00112233445566778899aabbccddeeff:1:1099511627775:1048575"},
		{Token{Path: "/a b,c:d%\n+é", Identity: identity, Epoch: 1, ID: 1}, "shm1:p%2Fa+b%2Cc%3Ad%25%0A%2B%C3%A9:00112233445566778899aabbccddeeff:1:1:0"},
		{Token{Identity: identity, Epoch: 1<<64 - 1, ID: 1}, "shm1:n:00112233445566778899aabbccddeeff:ffffffffffffffff:1:0"},
	} {
		if got := c.token.String(); got != c.text {
			t.Errorf("%+v is\n%s, want\n%s", c.token, got, c.text)
		}
		if got, err := ParseToken(c.text); err != nil || got != c.token {
			t.Errorf("ParseToken(%s) = %+v, %v", c.text, got, err)
		}
	}
}

func TestTokenMalformed(t *testing.T) {
	const id = "00112233445566778899aabbccddeeff"
	for _, text := range []string{
		"", "x", "shm1", "shm2:f3:" + id + ":1:1:0", "shm1:f3:" + id + ":1:1", "shm1:f3:" + id + ":1:1:0:0",
		"shm1::" + id + ":1:1:0", "shm1:q:" + id + ":1:1:0", "shm1:n1:" + id + ":1:1:0",
		"shm1:f:" + id + ":1:1:0", "shm1:f2:" + id + ":1:1:0", "shm1:f-3:" + id + ":1:1:0", "shm1:f99999999999:" + id + ":1:1:0",
		"shm1:prelative:" + id + ":1:1:0", "shm1:p:" + id + ":1:1:0", "shm1:p%zz:" + id + ":1:1:0", "shm1:p%2Fa%00:" + id + ":1:1:0",
		"shm1:f3:" + id[1:] + ":1:1:0", "shm1:f3:" + id + "00:1:1:0", "shm1:f3:g" + id[1:] + ":1:1:0",
		"shm1:f3:" + id + ":0:1:0", "shm1:f3:" + id + "::1:0", "shm1:f3:" + id + ":10000000000000000:1:0",
		"shm1:f3:" + id + ":1:1099511627776:0", "shm1:f3:" + id + ":1:-1:0", "shm1:f3:" + id + ":1:1:1048576", "shm1:f3:" + id + ":1:1:",
	} {
		got, err := ParseToken(text)
		if !errors.Is(err, ErrToken) || got != (Token{}) {
			t.Errorf("ParseToken(%q) = %+v, %v", text, got, err)
		}
	}
}

func TestParseTokens(t *testing.T) {
	a := Token{FD: 3, Identity: identity, Epoch: 5, ID: 1}
	b := Token{Path: "/x,y", Identity: identity, Epoch: 5, ID: 2, Index: 1}
	if got, err := ParseTokens(a.String() + "," + b.String()); err != nil || !slices.Equal(got, []Token{a, b}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"", ",", a.String() + ",", "," + a.String()} {
		if _, err := ParseTokens(text); !errors.Is(err, ErrToken) {
			t.Errorf("ParseTokens(%q): %v", text, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("shm1:f3:00112233445566778899aabbccddeeff:1f2e:42:7")
	f.Add("shm1:p%2Fa+b:00112233445566778899aabbccddeeff:1:1:0")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		again := token.String()
		if strings.ContainsAny(again, ", \n\x00") {
			t.Errorf("%q does not fit the environment", again)
		}
		if back, err := ParseToken(again); err != nil || back != token {
			t.Errorf("%q became %q, then %+v, %v", text, again, back, err)
		}
	})
}
