<?php

declare(strict_types=1);

namespace FastifyPushBridge\Laravel;

use FastifyPushBridge\Identity;
use FastifyPushBridge\Json;
use FastifyPushBridge\PushException;
use Illuminate\Auth\Access\AuthorizationException;
use Illuminate\Broadcasting\Broadcasters\UsePusherChannelConventions;
use Illuminate\Database\Eloquent\ModelNotFoundException;
use Illuminate\Support\Str;
use Symfony\Component\HttpKernel\Exception\BadRequestHttpException;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;

/** Which channels a request may hear, by routes/channels.php, as the identity of a ticket. */
final class ChannelAccess
{
    use UsePusherChannelConventions;

    /** `limits.topics` of the nodes: a connection has no more. */
    public const MAX_CHANNELS = 128;

    /** More are no page of this application. */
    private const MAX_ASKED = 1_000;

    /** The status of a channel for whose right, with what others see of the user there, the ticket has no room. */
    private const TOO_LARGE = 413;

    /**
     * @param \Closure(mixed, string): mixed $verify what the callback of a channel returned
     * @param \Closure(mixed, string): mixed $userOn the user by the guards of a channel
     * @param array<string, mixed> $config the connection in config/broadcasting.php
     */
    public function __construct(
        private readonly \Closure $verify,
        private readonly \Closure $userOn,
        private readonly array $config,
    ) {
    }

    /**
     * @param array<int, mixed> $names
     * @return array{identity: array<string, mixed>, denied: array<string, int>}
     */
    public function of(mixed $request, array $names): array
    {
        $asked = self::checked($names);
        $names = array_slice($asked, 0, self::MAX_CHANNELS);
        $identity = $this->identityOf($request, $names);
        $room = Identity::room($identity);
        // To refuse the whole list would silence a page for ever that opened one channel too many.
        $denied = array_fill_keys(array_slice($asked, self::MAX_CHANNELS), 400);
        foreach ($names as $name) {
            $right = $this->rightOn($request, $name, $identity['user']);
            // With a comma.
            $bytes = is_int($right) ? 0 : strlen(Json::encode($right, $name)) + 1;
            if (is_int($right) || $bytes > $room) {
                $denied[$name] = is_int($right) ? $right : self::TOO_LARGE;
                continue;
            }
            $identity['allow'][] = $right;
            $room -= $bytes;
        }
        return ['identity' => $identity, 'denied' => $denied];
    }

    /** @return array<string, mixed> without any right */
    private function identityOf(mixed $request, array $names): array
    {
        $identity = ['user' => $this->userOf($request, $names), 'allow' => []];
        $expires = $this->config['expires'] ?? null;
        if ($expires !== null && $expires !== '') {
            $identity['expires'] = (int) ((microtime(true) + (int) $expires) * 1000);
        }
        return $identity;
    }

    /** @return list<string> */
    private static function checked(array $names): array
    {
        if (count($names) > self::MAX_ASKED) {
            throw new BadRequestHttpException('nobody asks for more than ' . self::MAX_ASKED . ' channels');
        }
        foreach ($names as $name) {
            if (!is_string($name)) {
                throw new BadRequestHttpException('channels are names: {"channels":["private-orders.1"]}');
            }
        }
        return array_values(array_unique($names));
    }

    /** The user of the request; else that of the first guarded channel, whose guards may be others. */
    private function userOf(mixed $request, array $names): ?string
    {
        $user = $request->user();
        foreach (array_filter($names, $this->isGuardedChannel(...)) as $name) {
            $user ??= ($this->userOn)($request, $this->normalizeChannelName($name));
        }
        return $user === null ? null : self::identifierOf($user);
    }

    private static function identifierOf(mixed $user): string
    {
        return (string) (method_exists($user, 'getAuthIdentifierForBroadcasting')
            ? $user->getAuthIdentifierForBroadcasting()
            : $user->getAuthIdentifier());
    }

    /** A right, or the status with which the channel is denied. One that fails does not keep the others back. */
    private function rightOn(mixed $request, string $name, ?string $user): array|int
    {
        try {
            $topic = PushBroadcaster::topicOf($name);
        } catch (PushException) {
            return 400;
        }
        if (!$this->isGuardedChannel($name)) {
            return Str::is($this->config['public'] ?? ['*'], $name) ? self::right($topic, ['subscribe']) : 403;
        }
        try {
            return $this->guarded($request, $name, $topic, $user);
        } catch (HttpExceptionInterface $refusal) {
            return $refusal->getStatusCode();
        } catch (AuthorizationException) {
            return 403;
        } catch (ModelNotFoundException) {
            return 404;
        } catch (\Throwable $problem) {
            report($problem);
            return 500;
        }
    }

    private function guarded(mixed $request, string $name, string $topic, ?string $user): array|int
    {
        $channel = $this->normalizeChannelName($name);
        $own = ($this->userOn)($request, $channel);
        // One connection is one user: two guards may give the same id to two people.
        if ($own === null || self::identifierOf($own) !== $user) {
            return 403;
        }
        $result = ($this->verify)($request, $channel);
        $actions = ($this->config['whispers'] ?? false) ? ['subscribe', 'publish'] : ['subscribe'];
        if (!str_starts_with($name, 'presence-')) {
            return self::right($topic, $actions);
        }
        $right = self::right($topic, [...$actions, 'presence']);
        $right = $result === true ? $right : $right + ['info' => $result];
        Identity::check(['allow' => [$right]]);
        return $right;
    }

    private static function right(string $topic, array $actions): array
    {
        return ['topics' => [$topic], 'actions' => $actions];
    }
}
