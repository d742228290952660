package sweep

import (
	"os"
	"testing"
)

// The test binary plays all the roles.
func TestMain(m *testing.M) {
	if IsRole() {
		os.Exit(Role())
	}
	os.Exit(m.Run())
}
