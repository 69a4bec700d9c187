package durable_test

import (
	"testing"

	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestCrash(t *testing.T) { storagetest.RunCrash(t, backend(durable.Config{MaxOpen: 2}), 200) }

func TestDamage(t *testing.T) { storagetest.RunDamage(t, backend(durable.Config{}), 100) }
