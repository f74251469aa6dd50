package record_test

import (
	"testing"

	"makeitso/internal/record"
	"makeitso/internal/record/recordtest"
)

func TestMemory(t *testing.T) { recordtest.Run(t, record.NewMemory()) }
