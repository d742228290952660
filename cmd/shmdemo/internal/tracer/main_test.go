package tracer

import (
	"fmt"
	"os"
	"testing"
)

const roleVariable = "SHMDEMO_TRACER_TEST_ROLE"

// What the test binary does instead of tests, where a test starts it again.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := roles[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
