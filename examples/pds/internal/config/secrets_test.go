package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecretsAreKept(t *testing.T) {
	c := load(t, "PDS_DATA_DIRECTORY="+filepath.Join(t.TempDir(), "new"))
	if err := c.CheckKeys(); !errors.Is(err, ErrKeysMissing) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := c.StoredPassword(); err == nil {
		t.Error("a password out of nothing")
	}
	first, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if !first.NewPassword || len(first.JWTSecret) < 32 || len(first.MasterKeys) != 1 {
		t.Errorf("%+v", first)
	}
	if err := c.CheckKeys(); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(c.secretsPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// It is new until it has been shown: the first start may fail.
	if again, err := c.Secrets(); err != nil || !again.NewPassword {
		t.Errorf("not shown yet: %+v, %v", again, err)
	}
	if err := c.PasswordShown(); err != nil {
		t.Fatal(err)
	}
	again, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if password, err := c.StoredPassword(); err != nil || password != first.AdminPassword || again.NewPassword || again.AdminPassword != password ||
		!again.PLCRotationKeys[0].PublicKey().Equal(first.PLCRotationKeys[0].PublicKey()) || !cmp.Equal(again.MasterKeys, first.MasterKeys) {
		t.Error("other secrets at the second start")
	}
}

func TestSecretsOfTheEnvironmentAreNotWritten(t *testing.T) {
	c := load(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_ADMIN_PASSWORD=hunter2", "PDS_JWT_SECRET=jjj",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+strings.Repeat("11", 32), "PDS_MASTER_KEY="+strings.Repeat("22", 32))
	s, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(c.secretsPath())
	for _, secret := range []string{"hunter2", "jjj", "1111", "2222"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%s is in the file", secret)
		}
	}
	// But a backup has them.
	file, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	other := load(t, "PDS_DATA_DIRECTORY="+t.TempDir())
	if err := os.WriteFile(other.secretsPath(), file, 0o600); err != nil {
		t.Fatal(err)
	}
	restored, err := other.Secrets()
	if err != nil || restored.AdminPassword != "hunter2" || string(restored.JWTSecret) != "jjj" || !cmp.Equal(restored.MasterKeys, s.MasterKeys) {
		t.Errorf("%+v, %v", restored, err)
	}
}

func TestMasterKeyRotation(t *testing.T) {
	c := load(t, "PDS_DATA_DIRECTORY="+t.TempDir())
	before, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddMasterKey(); err != nil {
		t.Fatal(err)
	}
	during, err := c.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if len(during.MasterKeys) != 2 || !cmp.Equal(during.MasterKeys[1], before.MasterKeys[0]) || cmp.Equal(during.MasterKeys[0], before.MasterKeys[0]) {
		t.Error("the old key does not come second")
	}
	if r, err := c.Rotating(); err != nil || !r {
		t.Errorf("rotating %v, %v", r, err)
	}
	if err := c.DropMasterKeys(); err != nil {
		t.Fatal(err)
	}
	after, err := c.Secrets()
	if err != nil || !cmp.Equal(after.MasterKeys, during.MasterKeys[:1]) {
		t.Errorf("%v", err)
	}
	if r, _ := c.Rotating(); r {
		t.Error("still rotating")
	}
	// The key may move to the environment.
	moved := load(t, "PDS_DATA_DIRECTORY="+c.DataDirectory, "PDS_MASTER_KEY="+strings.Repeat("33", 32))
	if s, err := moved.Secrets(); err != nil || len(s.MasterKeys) != 2 || s.MasterKeys[0][0] != 0x33 || !cmp.Equal(s.MasterKeys[1], after.MasterKeys[0]) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := errors.Join(moved.AddMasterKey(), moved.DropMasterKeys()); err != nil {
		t.Fatal(err)
	}
	if s, err := moved.Secrets(); err != nil || len(s.MasterKeys) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestBadSecretsFile(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":       "{",
		"bad master key": `{"masterKey":"22"}`,
		"bad rotation":   `{"plcRotationKey":"zz"}`,
	} {
		c := load(t, "PDS_DATA_DIRECTORY="+t.TempDir())
		if err := os.WriteFile(c.secretsPath(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Secrets(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if have, _ := os.ReadFile(c.secretsPath()); string(have) != text {
			t.Errorf("%s: the file was overwritten", name)
		}
	}
}
