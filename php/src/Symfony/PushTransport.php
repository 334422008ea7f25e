<?php

declare(strict_types=1);

namespace FastifyPushBridge\Symfony;

use FastifyPushBridge\Message;
use FastifyPushBridge\Publisher;
use FastifyPushBridge\PushException;
use Symfony\Component\Notifier\Exception\LogicException;
use Symfony\Component\Notifier\Message\ChatMessage;
use Symfony\Component\Notifier\Message\MessageInterface;
use Symfony\Component\Notifier\Message\SentMessage;
use Symfony\Component\Notifier\Transport\TransportInterface;

/** A chat transport of Symfony Notifier: pages are told at once. */
final class PushTransport implements TransportInterface
{
    /** The type of messages that have no PushOptions. */
    public const TYPE = 'notification';

    /** `topic`: where messages without PushOptions go. `name`: the DSN without its secret, for logs. */
    public function __construct(
        private readonly Publisher $publisher,
        private readonly ?string $topic,
        private readonly string $name,
    ) {
    }

    public function __toString(): string
    {
        return $this->name;
    }

    public function supports(MessageInterface $message): bool
    {
        $options = $message->getOptions();
        return $message instanceof ChatMessage && ($options === null || $options instanceof PushOptions);
    }

    public function send(MessageInterface $message): ?SentMessage
    {
        if (!$message instanceof ChatMessage || !$this->supports($message)) {
            throw new LogicException(sprintf('"%s" takes a ChatMessage, with PushOptions or none.', self::class));
        }
        $topic = $message->getRecipientId() ?? $this->topic;
        if ($topic === null) {
            throw new LogicException('No topic: give the message PushOptions, or the DSN ?topic=channel:NAME.');
        }
        try {
            $result = $this->publisher->publish($topic, self::messageOf($message));
        } catch (PushException $problem) {
            throw new NotPublished($problem);
        }
        $sent = new SentMessage($message, $this->name);
        if ($result->id() !== null) {
            $sent->setMessageId($result->id());
        }
        return $sent;
    }

    private static function messageOf(ChatMessage $chat): Message
    {
        ['type' => $type, 'data' => $data] = $chat->getOptions()?->toArray() ?? ['type' => self::TYPE, 'data' => []];
        $content = $chat->getNotification()?->getContent() ?? '';
        $text = ['subject' => $chat->getSubject()] + ($content === '' ? [] : ['content' => $content]);
        return Message::of($type, $text + $data);
    }
}
