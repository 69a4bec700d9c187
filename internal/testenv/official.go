package testenv

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed official-pds.cjs
var officialPDS []byte

// OfficialPDS starts the official PDS, the npm package @atproto/pds in a folder that NodeModules
// has returned, with a did:plc directory, and returns its host name with its port. It ends with the
// test.
func OfficialPDS(t testing.TB, modules, directory string) string {
	t.Helper()
	host, _ := StartOfficialPDS(t, modules, directory)
	return host
}

// StartOfficialPDS is OfficialPDS for those who also need the number of the process.
func StartOfficialPDS(t testing.TB, modules, directory string) (host string, pid int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	dir := t.TempDir()
	script := filepath.Join(dir, "official-pds.cjs")
	if err := os.WriteFile(script, officialPDS, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", script)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "PDS_PORT="+port, "PDS_HOSTNAME=localhost", "PDS_DEV_MODE=true", "PDS_DATA_DIRECTORY="+dir,
		"PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(dir, "blobs"), "PDS_JWT_SECRET=jwt-secret", "PDS_ADMIN_PASSWORD=password", "PDS_INVITE_REQUIRED=false",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+hex.EncodeToString(bytes.Repeat([]byte{7}, 32)), "PDS_DID_PLC_URL="+directory,
		"PDS_DISABLE_SSRF_PROTECTION=true", "PDS_DPOP_SECRET="+hex.EncodeToString(bytes.Repeat([]byte{8}, 32)))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			go io.Copy(io.Discard, out)
			return "localhost:" + port, cmd.Process.Pid
		}
	}
	t.Fatal("the official PDS does not start")
	return "", 0
}
