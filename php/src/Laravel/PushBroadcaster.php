<?php

declare(strict_types=1);

namespace FastifyPushBridge\Laravel;

use FastifyPushBridge\Message;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Topic;
use Illuminate\Broadcasting\BroadcastException;
use Illuminate\Broadcasting\Broadcasters\Broadcaster;
use Illuminate\Support\Arr;
use Illuminate\Support\Str;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;
use Symfony\Component\HttpKernel\Exception\ServiceUnavailableHttpException;

/**
 * The driver `push`. A channel of Laravel is the topic `channel:` and its name, with `private-` and `presence-`; an event is
 * a message of the type of its class, with dots.
 */
final class PushBroadcaster extends Broadcaster
{
    private ?Publisher $publisher = null;
    private readonly ChannelAccess $access;

    /**
     * @param \Closure(): Publisher $newPublisher called when something is published: routes/channels.php makes a driver
     *     in every request, and few of them publish
     * @param array<string, mixed> $config the connection in config/broadcasting.php
     */
    public function __construct(private readonly \Closure $newPublisher, private readonly array $config = [])
    {
        $verify = fn (mixed $request, string $channel): mixed => $this->verifyUserCanAccessChannel($request, $channel);
        $user = fn (mixed $request, string $channel): mixed => $this->retrieveUser($request, $channel);
        $this->access = new ChannelAccess($verify, $user, $config);
    }

    /**
     * A ticket for `channels`: with it a page may hear what routes/channels.php lets it. `denied` has the others, with a
     * status. A request of Pusher's kind, with one `channel_name`, is answered with 403 if that is denied.
     *
     * @param \Illuminate\Http\Request $request
     * @return array{ticket: string, denied: object}
     */
    public function auth($request)
    {
        $single = $request->input('channel_name');
        $names = $request->input('channels') ?? (is_string($single) ? [$single] : null);
        if (!is_array($names)) {
            throw new AccessDeniedHttpException('name the channels: {"channels":["private-orders.1"]}');
        }
        ['identity' => $identity, 'denied' => $denied] = $this->access->of($request, $names);
        if ($request->input('channels') === null && $denied !== []) {
            throw new AccessDeniedHttpException();
        }
        try {
            return ['ticket' => $this->publisher()->ticket($identity), 'denied' => (object) $denied];
        } catch (PushException $problem) {
            // The page asks again later, and nobody looks for an error in the application.
            throw $problem->isAway()
                ? new ServiceUnavailableHttpException(null, $problem->getMessage(), $problem)
                : $problem;
        }
    }

    /** What the callback in routes/channels.php returned: `ChannelAccess` makes a right of it. */
    public function validAuthenticationResponse($request, $result)
    {
        return $result;
    }

    /**
     * @param array<int, mixed> $channels
     * @param string $event
     * @param array<string, mixed> $payload
     */
    public function broadcast(array $channels, $event, array $payload = [])
    {
        $socket = Arr::pull($payload, 'socket');
        try {
            $message = Message::of(self::typeOf($event), $payload === [] ? new \stdClass() : $payload);
            $message = self::toOthers($message, $socket);
            $batch = [];
            foreach ($this->formatChannels($channels) as $name) {
                $batch[] = [self::topicOf($name), $this->recorded($name, $message)];
            }
            foreach (array_chunk($batch, Publisher::MAX_BATCH) as $part) {
                $this->publish($part);
            }
        } catch (PushException $problem) {
            throw new BroadcastException("$event was not broadcast: {$problem->getMessage()}", 0, $problem);
        }
    }

    /** `App\Events\OrderShipped` is `App.Events.OrderShipped`: types have no backslash. */
    public static function typeOf(string $event): string
    {
        return str_replace('\\', '.', ltrim($event, '\\'));
    }

    /** @throws PushException if the name is none that nodes take, or nobody could read the channel */
    public static function topicOf(string $channel): string
    {
        if (str_starts_with($channel, 'private-encrypted-')) {
            $sentence = "$channel is encrypted, which the bridge does not do: use a PrivateChannel over TLS";
            throw new PushException('PUSH_ERR_TOPIC', $sentence);
        }
        return Topic::check("channel:$channel");
    }

    /** What goes to several channels is published together, and one that fails does not keep the others back. */
    private function publish(array $batch): void
    {
        $failed = null;
        foreach ($this->publisher()->publishAll($batch) as $result) {
            $failed ??= $result->error;
        }
        if ($failed !== null) {
            throw $failed;
        }
    }

    private function publisher(): Publisher
    {
        return $this->publisher ??= ($this->newPublisher)();
    }

    /** The header X-Socket-ID comes from the page: one that cannot be the id of a connection skips nobody. */
    private static function toOthers(Message $message, mixed $socket): Message
    {
        $isId = is_string($socket) && Topic::nameProblem($socket) === null;
        return $isId ? $message->except("connection:$socket") : $message;
    }

    private function recorded(string $channel, Message $message): Message
    {
        foreach ($this->config['history'] ?? [] as $pattern => ['size' => $size, 'ttl' => $ttl]) {
            if (Str::is($pattern, $channel)) {
                return $message->recorded($size, $ttl);
            }
        }
        return $message;
    }
}
