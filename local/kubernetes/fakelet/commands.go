package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// commands runs what exec, attach and port-forward ask for on this machine, and knows what still runs.
type commands struct{ running sync.WaitGroup }

// wait returns when every command has ended, or when time is up.
func (c *commands) wait(limit time.Duration) {
	ended := make(chan struct{})
	go func() { c.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(limit):
	}
}

// ExecInContainer runs argv; its whole process group ends with ctx.
func (c *commands) ExecInContainer(ctx context.Context, pod, _, container string, argv []string, in io.Reader,
	out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	c.running.Add(1)
	defer c.running.Done()
	namespace, name, _ := strings.Cut(pod, "/")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "POD_NAMESPACE="+namespace, "POD_NAME="+name, "CONTAINER="+container)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var err error
	if tty {
		err = runOnTerminal(cmd, in, out, resize)
	} else {
		err = runOnPipes(cmd, in, out, errOut)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// AttachContainer echoes, since no container's process is there to attach to.
func (c *commands) AttachContainer(ctx context.Context, pod, uid, container string, in io.Reader,
	out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return c.ExecInContainer(ctx, pod, uid, container, []string{"cat"}, in, out, errOut, tty, resize, 0)
}

// PortForward joins the stream to the same port of this machine.
func (c *commands) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	target, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer target.Close()
	go func() { _, _ = io.Copy(target, stream); _ = target.(*net.TCPConn).CloseWrite() }()
	_, err = io.Copy(stream, target)
	return err
}

func runOnTerminal(cmd *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	terminal, err := pty.Start(cmd) // in a session, and so in a process group, of its own
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range resize {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go func() { _, _ = io.Copy(terminal, in) }()
	}
	_, _ = io.Copy(out, terminal) // ends with EIO when the last process closes the terminal
	return cmd.Wait()
}

func runOnPipes(cmd *exec.Cmd, in io.Reader, out, errOut io.Writer) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if in != nil {
		pipe, err := cmd.StdinPipe() // not cmd.Stdin: Wait must not wait for the client's input to end
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(pipe, in); _ = pipe.Close() }()
	}
	if out != nil { // an interface that holds nothing must stay nil
		cmd.Stdout = out
	}
	if errOut != nil {
		cmd.Stderr = errOut
	}
	return cmd.Run()
}
