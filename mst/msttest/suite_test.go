package msttest_test

import (
	"testing"

	"github.com/pdskit/pdskit/mst/msttest"
)

func TestPackageMST(t *testing.T) {
	msttest.Run(t, msttest.PackageMST(true), msttest.Options{Histories: 10})
}
