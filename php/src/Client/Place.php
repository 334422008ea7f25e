<?php

declare(strict_types=1);

namespace FastifyPushBridge\Client;

/** Where one topic stands on this client. */
final class Place
{
    /** Everything up to here was handed out or told as a gap: recovery continues from it. */
    public ?string $id = null;
    /** Where the topic goes on after a gap that is announced. A connection that breaks before the gap must bring it again. */
    public ?string $next = null;
    /** The last message that was handed out. */
    public ?string $last = null;
    /** The server was asked on this connection for what comes after `id`. */
    public bool $isAsked = false;
    /** Live messages come before the missed ones: recorded ones are ignored, because the answer brings them again. */
    public bool $isAhead = false;
    /** A message was ignored that may be later than the position that the server is about to send. */
    public bool $hasLetGo = false;
    /** How many questions on this connection wait for an answer: the last answer decides. */
    public int $questions = 0;
    /** How many of the newest messages are wanted, until the first message comes. */
    public ?int $first = null;
    /** They were asked for on this connection: `id` is not where they begin. */
    public bool $isBeginning = false;
    /** From the option `since`: the application may subscribe long after the first welcome. */
    public bool $isRestored = false;
    public bool $isHeld = true;
    /** What the welcome said about a topic that the connection has without subscribing. Before one, any may be. */
    public ?array $own = null;
}
